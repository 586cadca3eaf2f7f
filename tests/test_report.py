import io
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import plotly.graph_objects as go
import pytest
from helpers import plan
from optuna import Study
from optuna.trial import TrialState, create_trial
from plotly.offline import get_plotlyjs
from rich.console import Console

from dsaccel.report.figures.depth import Depth, stage_borders
from dsaccel.report.figures.heads import Heads
from dsaccel.report.figures.hierarchies import Hierarchies
from dsaccel.report.figures.history import History
from dsaccel.report.figures.parameters import Parameters
from dsaccel.report.study_page import write_report
from dsaccel.report.study_table import headline, trials_table
from dsaccel.report.table import Table
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import best_trial

CONFIG = {
    "space": {"family": "resnet18", "num_blocks": [[1, 3]] * 3, "constraint": "accelerated"},
    "training": {"epochs": 4, "schedule": "simultaneous"},
    "network": {"granularity": "conv", "loss": "predsim"},
    "seed": 7,
}


def heads_of(hierarchy: str, accuracy: float, epochs: int) -> list[list[float]]:
    """Three local heads below the output layer, each deeper and later one better."""
    return [[accuracy * e / epochs * d / 4 for d in range(1, 5)] for e in range(1, epochs + 1)]


def add(
    study: Study,
    hierarchy: str,
    accuracy: float,
    state: TrialState = TrialState.COMPLETE,
    epochs: int = 4,
    **attrs: object,
) -> None:
    heads = heads_of(hierarchy, accuracy, epochs)
    trial = create_trial(
        state=state,
        value=accuracy if state == TrialState.COMPLETE else None,
        intermediate_values={epoch: row[-2] for epoch, row in enumerate(heads, 1)},
        user_attrs={"hierarchy": hierarchy, "head_accuracies": heads, "epochs_trained": epochs}
        | {"num_parameters": 1000, "shallow_scale": 0.5, "time_s": 2.0}
        | attrs,
    )
    study.add_trial(trial)


@pytest.fixture
def empty() -> Study:
    return optuna.create_study(direction="maximize", study_name="empty")


@pytest.fixture
def study(empty: Study) -> Study:
    """The best is 1-1-3; above it an infeasible and a pruned one."""
    empty.set_user_attr("config", CONFIG)
    add(empty, "2-2-2", 0.80, reference=True, num_parameters=5_000_000)
    add(empty, "1-1-2", 0.85, num_parameters=11_173_962)
    add(empty, "1-1-1", 0.99, TrialState.PRUNED, epochs=2)
    add(empty, "3-1-1", 0.95, feasible=False)
    add(empty, "1-1-3", 0.90)
    add(empty, "1-2-2", 0.88, harvested=True)
    add(empty, "1-3-3", 0.70, TrialState.FAIL, epochs=1)
    return empty


class Page(HTMLParser):
    """What a page loads, its text outside of scripts, and its scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.text = self.scripts = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in ("script", "style"):
            self.scripts += data
        else:
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self.tags.append("/" + tag)


def page_of(study: Study, folder: Path) -> Page:
    write_report(StudyRecord.read(study), folder / "report.html")
    return Page(folder / "report.html")


def table_text(study: Study, limit: int = 20, width: int = 120) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(trials_table(StudyRecord.read(study), limit))
    return capture.get()


def drawn_by(figure: go.Figure) -> list[Any]:
    return list(figure.data)


def traces(figure: go.Figure) -> dict[str, Any]:
    return {trace.name: trace for trace in drawn_by(figure)}


def hierarchy_of(study: Study) -> str | None:
    best = best_trial(StudyRecord.read(study))
    return best and best.name


def test_no_name_is_cut_on_a_terminal_of_80_columns(empty):
    rates = [f"learning_rate=0.00123456789012345678{digit}" for digit in "12"]
    for rate in rates:
        add(empty, f"1-1-2 {rate}", 0.9, TrialState.PRUNED)
    lines = table_text(empty, width=80).splitlines()
    names = "".join(line.split("│")[1].strip() for line in lines if "│" in line)
    assert all(rate in names for rate in rates)


def test_the_best_is_the_highest_complete_feasible_trial(study):
    assert hierarchy_of(study) == "1-1-3"


def test_a_value_that_is_not_finite_is_never_the_best(study):
    add(study, "1-2-3", math.inf)
    assert hierarchy_of(study) == "1-1-3"


def test_without_a_trial_that_may_be_best_there_is_none(empty):
    add(empty, "3-1-1", 0.95, feasible=False)
    add(empty, "1-1-1", 0.90, TrialState.PRUNED)
    assert best_trial(StudyRecord.read(empty)) is None


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"shallow_scale": 0.4, "num_parameters": 9}, {"shallow_scale": 0.5, "num_parameters": 8}),
        ({"num_parameters": 8}, {"num_parameters": 9}),
    ],
)
def test_equal_accuracies_go_to_the_smaller_scale_then_to_fewer_parameters(empty, better, worse):
    add(empty, "1-1-2", 0.9, **worse)
    add(empty, "1-1-3", 0.9, **better)
    assert hierarchy_of(empty) == "1-1-3"


def test_of_equal_trials_the_earlier_one_is_the_best(empty):
    add(empty, "1-1-2", 0.9)
    add(empty, "1-1-3", 0.9)
    assert hierarchy_of(empty) == "1-1-2"


def test_the_page_loads_nothing_and_holds_plotly_once(study, tmp_path):
    page = page_of(study, tmp_path)
    assert page.loads == []
    assert "link" not in page.tags
    assert page.scripts.count(get_plotlyjs()) == 1
    assert not list(tmp_path.glob("*.part"))


def test_the_page_says_what_is_searched_as_a_study_file_has_it(empty, tmp_path):
    settings = {
        "dropout": {"low": 0.0, "high": 0.4, "choices": None},
        "beta": None,
        "decoder_size": {"low": 256.0, "high": 4096.0, "choices": None},
        "pred_conv": {"low": None, "high": None, "choices": [True, False]},
    }
    empty.set_user_attr("config", {"space": {"settings": settings}})
    text = page_of(empty, tmp_path).text
    assert "dropout 0–0.4, decoder size 256–4096, pred conv true or false" in text


def test_the_page_names_every_hierarchy_the_settings_and_the_best(study, tmp_path):
    page = page_of(study, tmp_path)
    for trial in study.trials:
        assert trial.user_attrs["hierarchy"] in page.text
    assert all(text in page.text for text in ("resnet18", "accelerated", "predsim", "4 epochs"))
    assert "best hierarchy1-1-3" in page.text.replace("\n", "")


def test_the_page_compares_with_the_baseline_and_the_reference(study, tmp_path):
    baseline = {"hierarchy": "1-1-3", "val_accuracy": 0.93, "num_parameters": 9, "time_s": 3.0}
    study.set_user_attr("baseline", baseline)
    page = page_of(study, tmp_path)
    assert "93.00 %same hierarchy; layer-wise -3.00 points" in page.text
    assert "80.00 %2-2-2; the winner +10.00 points" in page.text


def test_text_of_the_study_is_escaped(tmp_path):
    bad = "<img src=x onerror=alert(1)></script>[red]"
    study = optuna.create_study(direction="maximize", study_name=bad)
    study.set_user_attr("config", {"space": {"family": bad}, "data": {"name": bad}, "seed": bad})
    study.set_user_attr("baseline", {"hierarchy": bad + "!", "val_accuracy": 0.5})
    study.set_user_attr("num_val", 100)
    for accuracy in (0.5, 0.51):
        add(study, bad, accuracy)
    page = page_of(study, tmp_path)
    assert "img" not in page.tags
    assert bad in page.text
    assert "<img" not in page.scripts.replace(get_plotlyjs(), "")
    # two trials and the baseline; rich would read [red] as a colour
    assert table_text(study).count(bad) == 3
    for figure in (History(), Hierarchies(), Depth(), Parameters()):
        # plotly itself reads labels as HTML
        assert "<img" not in str(figure.draw(StudyRecord.read(study)))


def test_an_empty_study_still_gives_a_page_a_table_and_a_headline(empty, tmp_path):
    assert "No trial has been started yet" in page_of(empty, tmp_path).text
    assert "hierarchy" in table_text(empty)
    assert "no trial has completed" in headline(StudyRecord.read(empty))


def test_a_running_study_says_that_nothing_has_completed(empty, tmp_path):
    distribution = optuna.distributions.IntDistribution(1, 3)
    empty.add_trial(
        create_trial(
            state=TrialState.RUNNING,
            params={"num_blocks_s2": 3, "num_blocks_s1": 2},
            distributions={"num_blocks_s1": distribution, "num_blocks_s2": distribution},
        )
    )
    page = page_of(empty, tmp_path)
    assert "No trial has completed yet" in page.text
    assert "2-3" in page.text
    assert "running" in table_text(empty)


def test_the_standard_error_is_told_only_if_the_number_of_images_is_known(study, tmp_path):
    assert "is not recorded in this study" in page_of(study, tmp_path).text
    study.set_user_attr("num_val", 100)
    text = page_of(study, tmp_path).text
    # sqrt(0.9 x 0.1 / 100) = 3 points: 1-2-2 with 88 % is within, 1-1-2 with 85 % is not
    assert "is 3.00 points" in text
    assert "1 other hierarchy is within it of the best (1-2-2)" in text


def test_the_running_best_rises_with_feasible_complete_trials_only(study):
    line = traces(History().draw(StudyRecord.read(study)))["best so far"]
    assert list(line.x) == [0, 1, 4, 5, 6]
    assert list(line.y) == [0.80, 0.85, 0.90, 0.90, 0.90]


def test_the_history_shows_every_trial_by_what_became_of_it(study):
    drawn = traces(History().draw(StudyRecord.read(study)))
    points = {name: list(zip(t.x, t.y, strict=True)) for name, t in drawn.items()}
    del points["best so far"]
    assert points == {
        "complete": [(1, 0.85), (4, 0.90)],
        "harvested": [(5, 0.88)],
        "reference": [(0, 0.80)],
        "outside the constraint": [(3, 0.95)],
        # its deepest local head at its last epoch
        "pruned (last accuracy)": [(2, 0.99 * 3 / 4)],
        "failed": [(6, 0)],
    }
    assert drawn["failed"].yaxis == "y2"


def test_hierarchies_are_sorted_best_on_top_and_the_best_is_ringed(study):
    study.set_user_attr("baseline", {"hierarchy": "1-1-3", "val_accuracy": 0.93})
    figure = Hierarchies().draw(StudyRecord.read(study))
    top_down = list(figure.layout.yaxis.categoryarray)[::-1]
    assert top_down == ["3-1-1", "1-1-3", "1-2-2", "1-1-2", "2-2-2", "1-1-1"]
    ring, baseline = traces(figure)["best"], traces(figure)["global back-propagation"]
    assert (ring.x[0], ring.y[0]) == (0.90, "1-1-3")
    assert (baseline.x[0], baseline.y[0]) == (0.93, "1-1-3")


def test_a_hierarchy_tried_twice_is_drawn_once_at_its_better_outcome(study):
    add(study, "1-1-2", 0.75)
    complete = traces(Hierarchies().draw(StudyRecord.read(study)))["complete"]
    assert dict(zip(complete.y, complete.x, strict=True)) == {"1-1-3": 0.90, "1-1-2": 0.85}


def test_many_hierarchies_are_cut_but_the_best_and_the_references_stay(study):
    figure = Hierarchies(limit=1).draw(StudyRecord.read(study))
    assert list(figure.layout.yaxis.categoryarray)[::-1] == ["3-1-1", "1-1-3", "2-2-2"]


def test_the_heads_figure_shows_the_best_and_holds_the_others_for_a_choice(study, tmp_path):
    figure = Heads().draw(StudyRecord.read(study))
    drawn = [trace for trace in drawn_by(figure) if trace.meta is not None]
    shown = [trace for trace in drawn if trace.visible]
    heads = heads_of("1-1-3", 0.90, 4)
    assert {trace.meta for trace in shown} == {4}
    assert [list(trace.y) for trace in shown] == [list(head) for head in zip(*heads, strict=True)]
    assert list(shown[0].x) == [1, 2, 3, 4]
    assert shown[-1].name == "output layer"
    assert {trace.meta for trace in drawn} == {0, 1, 2, 3, 4, 5, 6}
    text = page_of(study, tmp_path).text
    assert "1-2-2, 88.00 %, harvested" in text


def test_heads_that_were_trained_stage_by_stage_start_at_their_stage(empty, tmp_path):
    empty.set_user_attr("config", CONFIG | {"training": {"epochs": 4, "schedule": "sequential"}})
    rungs = [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4, 0.5]]
    add(empty, "1-1-1", 0.5, head_accuracies=rungs)
    add(empty, "2-2-2", 0.4, TrialState.PRUNED, epochs=2, head_accuracies=rungs[:2])
    figure: Any = Heads().draw(StudyRecord.read(empty))
    assert figure.layout.xaxis.title.text == "stage"
    complete, pruned = (
        {trace.name: trace.y for trace in figure.data if trace.meta == number} for number in (0, 1)
    )
    assert complete["local head 4 of 4"] == (None, 0.4, 0.4)
    assert complete["output layer"] == (None, None, 0.5)
    # a trial that was pruned at a stage's end has no output layer yet
    assert list(pruned) == [f"local head {depth} of 4" for depth in range(1, 5)]
    by_depth: Any = Depth().draw(StudyRecord.read(empty))
    assert list(by_depth.data[0].y) == rungs[-1]
    assert "over the stages" in page_of(empty, tmp_path).text
    assert "pruned at stage 2" in table_text(empty)


def test_stages_without_a_loss_are_passed_over(empty):
    empty.set_user_attr("config", CONFIG | {"training": {"epochs": 4, "schedule": "sequential"}})
    add(empty, "1-1-1", 0.5, epochs=3, head_accuracies=[[0.3], [0.3, 0.4, 0.5]])
    figure: Any = Heads().draw(StudyRecord.read(empty))
    points = {trace.name: (trace.x, trace.y) for trace in figure.data}
    assert points["local head 1 of 2"] == ((2, 3), (0.3, 0.3))
    assert points["output layer"] == ((2, 3), (None, 0.5))


def test_accuracy_by_depth_is_that_of_the_last_epoch(study):
    lines = traces(Depth(num_best=10).draw(StudyRecord.read(study)))
    assert list(lines["1-1-3"].y) == heads_of("1-1-3", 0.90, 4)[-1]
    assert "2-2-2 (reference)" in lines
    assert "1-1-1" not in lines


@pytest.mark.parametrize(
    ("family", "hierarchy", "borders"),
    [
        ("resnet18", "2-2-2-2", [5, 9, 13, 17]),
        ("resnet18", "1-1-2 granularity=block", [2, 3, 5]),
        ("resnet18", "1-1-2 granularity=conv,conv,block", [3, 5, 7]),
        ("resnet18", "1-1-2 granularity=stage", [1, 2, 3]),
        ("resnet50", "1-2-1", [4, 10, 13]),
        # the fully connected unit is no stage's
        ("vgg", "1-2-1", [1, 3, 4]),
        # a stage without a head has no border
        ("resnet18", "1-1-1 first_loss=4", [2, 4]),
    ],
)
def test_stage_borders_are_those_of_the_plan(family, hierarchy, borders):
    assert stage_borders(plan(hierarchy, family, side=16).head_stages) == borders


def test_the_table_is_sorted_marks_the_best_and_tells_each_state(study):
    study.set_user_attr("baseline", {"hierarchy": "1-1-3", "val_accuracy": 0.93})
    lines = [line for line in table_text(study).splitlines() if "-" in line]
    order = ["3-1-1", "1-1-3", "1-2-2", "1-1-2", "2-2-2", "1-1-1", "1-3-3", "1-1-3"]
    states = ["outside the constraint", "best", "harvested", "complete", "reference"]
    states += ["pruned at epoch 2", "failed at epoch 1", "global back-propagation"]
    assert len(lines) == len(order)
    for line, hierarchy, state in zip(lines, order, states, strict=True):
        assert hierarchy in line
        assert state in line
    assert "85.00 %" in lines[3]
    assert "11.17 M" in lines[3]
    # what was read of those that are not complete is another classifier's, and says so
    accuracies = [line.split("│")[2].strip() for line in lines]
    assert accuracies[5:7] == ["-", "-"]
    assert "pruned at epoch 2, deepest head 74.25 %" in lines[5]
    study.set_user_attr("config", CONFIG | {"pruning": {"by": "output"}})
    assert "pruned at epoch 2, output layer 74.25 %" in table_text(study)


def test_trials_that_were_cut_off_and_begun_again_are_left_out(study):
    before = table_text(study)
    assert before.count("1-3-3") == 1
    add(study, "1-3-3", 0.70, TrialState.FAIL, epochs=2)
    assert table_text(study).count("1-3-3") == 1
    add(study, "1-3-3", 0.70)
    lines = [line for line in table_text(study).splitlines() if "1-3-3" in line]
    assert len(lines) == 1
    assert "complete" in lines[0]


def test_blocks_that_nobody_shares_are_not_called_fewer(study):
    study.set_user_attr("blocks_trained", 42)
    study.set_user_attr("blocks_separate", 42)
    assert "blocks    42 trained, none shared" in headline(StudyRecord.read(study))


def test_a_long_table_keeps_the_best_and_counts_the_rest(study):
    text = table_text(study, limit=1)
    assert "1-1-3" in text
    assert "1-1-2" not in text
    assert "and 6 more" in text


def test_the_headline_tells_best_baseline_and_blocks(study):
    study.set_user_attr("baseline", {"hierarchy": "1-1-3", "val_accuracy": 0.93})
    study.set_user_attr("blocks_trained", 112)
    study.set_user_attr("blocks_separate", 341)
    study.set_user_attr("time_s", 133.4)
    best, baseline, depth, blocks, time = headline(StudyRecord.read(study)).splitlines()
    assert "1-1-3  90.00 %" in best
    assert "93.00 %" in baseline
    assert "-3.00 points" in baseline
    assert depth.startswith("depth     ")
    assert "112 trained instead of 341 (3.0 times fewer)" in blocks
    assert "2 min 13 s" in time


def test_a_table_too_wide_for_a_terminal_is_written_row_by_row_and_cuts_no_word():
    table = Table(("network", "role", "test"), [("1-1-2", "reference", "-"), ("2-2-2", "b", "9 %")])

    def printed(width: int) -> str:
        console = Console(width=width, file=io.StringIO())
        console.print(table)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    assert "┃ network ┃" in printed(30)
    assert [line.rstrip() for line in printed(22).split("\n")[:7]] == [
        *("network  1-1-2", "role     reference", ""),
        *("network  2-2-2", "role     b", "test     9 %", ""),
    ]
