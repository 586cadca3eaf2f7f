"""The contract of figures, on a study that has nothing, that runs, and that is finished."""

import json
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from dsaccel.report.figures import Figure
from dsaccel.study.record import StudyRecord

MARKUP = "<img src=x>"


def check_figure(figure: Figure) -> None:
    """It says what it shows, draws whatever is there, and changes nothing."""
    assert figure.title, "a figure must have a title"
    assert (type(figure).__doc__ or "").strip(), "a figure must have a docstring: its caption"
    assert figure.needs, "a figure must say what it needs before there is something to draw"
    for study in (_study(), _study(_trial(TrialState.RUNNING)), _study(*_finished())):
        before = repr(study)
        drawn, again = figure.draw(study), figure.draw(study)
        assert drawn.to_json() == again.to_json(), "a study must always be drawn alike"
        assert repr(study) == before, "a study must not be changed by a figure of it"
        text = json.dumps(drawn.to_plotly_json(), default=str)
        assert MARKUP not in text, "names of a study must be escaped: plotly reads labels as HTML"
        figure.section(study, "contract")
    assert not figure.draw(_study()).data, "nothing may be drawn of a study without trials"


def _study(*trials: FrozenTrial) -> StudyRecord:
    config = {"space": {"family": MARKUP, "num_blocks": [[1, 3]] * 3}, "training": {"epochs": 2}}
    baseline = {"hierarchy": MARKUP, "val_accuracy": 0.7}
    return StudyRecord(MARKUP, trials, {"config": config, "num_val": 100, "baseline": baseline})


def _finished() -> list[FrozenTrial]:
    trials = [
        _trial(TrialState.COMPLETE, "2-2-2", 0.6, reference=True),
        _trial(TrialState.COMPLETE, "1-1-2", 0.9),
        _trial(TrialState.COMPLETE, MARKUP, 0.8),
        _trial(TrialState.PRUNED, "1-2-2", 0.5),
        _trial(TrialState.FAIL, "1-1-3", 0.4),
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    return trials


def _trial(
    state: TrialState, hierarchy: str = "1-1-1", accuracy: float | None = None, **attributes: Any
) -> FrozenTrial:
    heads = [] if accuracy is None else [[accuracy / 2, accuracy], [accuracy / 2, accuracy]]
    sizes = {"num_parameters": 1000, "flops": 1e6, "shallow_scale": 0.5}
    return create_trial(
        state=state,
        value=accuracy if state == TrialState.COMPLETE else None,
        intermediate_values={1: accuracy, 2: accuracy} if accuracy else {},
        user_attrs={"hierarchy": hierarchy, "head_accuracies": heads} | sizes | attributes,
    )
