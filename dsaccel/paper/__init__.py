"""The paper's tables and figures, trained again by one command each: `dsaccel reproduce`.

arXiv 2010.08038. `rows` holds what the paper published, `scale` how much of it is trained, `train`
trains it, `compare` sets both side by side.
"""
