"""Named randomness: a seed for each purpose, derived from the study's seed and the purpose's name.

Nothing in dsaccel draws from a global generator. A random number belongs to a *position* (stage,
block, unit, epoch), not to the moment it is drawn, so that two hierarchies that share a prefix
share its random numbers (the prefix law).
"""

import hashlib


def derive(seed: int, *names: str | int) -> int:
    """Derive a seed in 0..2^63-1 from a base seed and the name of what it is for.

    Example: `derive(seed, "dropout", stage, index, unit, epoch)`.
    """
    # repr keeps 1 and "1" apart, and the tuple's commas keep ("a", "b") and ("ab",) apart
    digest = hashlib.blake2b(repr((seed, *names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
