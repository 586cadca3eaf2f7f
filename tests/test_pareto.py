import json
import random
import re
from pathlib import Path

import optuna
import pytest
from commands import run
from optuna import Study
from optuna.trial import TrialState, create_trial
from rich.console import Console
from tiny_study import searched, searching, write_study

from dsaccel.analysis.pareto import Front, read_front
from dsaccel.errors import ConfigError, NoResultError
from dsaccel.report.figures.pareto import growth_figure, pareto_figure
from dsaccel.report.pareto import front_summary, front_table, write_front
from dsaccel.spec.costs import COSTS, find_costs
from dsaccel.study.record import StudyRecord

pytestmark = pytest.mark.long


def study_of(*pairs: tuple[float, int], **attributes: object) -> Study:
    study = optuna.create_study(direction="maximize", study_name="s")
    for number, (accuracy, num_parameters) in enumerate(pairs):
        attrs = {"hierarchy": f"1-{number + 1}", "num_parameters": num_parameters, **attributes}
        study.add_trial(create_trial(value=accuracy, user_attrs=attrs))
    return study


def front_of(study: Study, *names: str) -> Front:
    return read_front(StudyRecord.read(study), find_costs(names or ("parameters",)))


def front(study: Study) -> set[str]:
    return {point.name for point in front_of(study).best}


def test_the_front_is_what_nothing_beats_in_accuracy_and_cost() -> None:
    rng = random.Random(1)
    pairs = [(rng.randint(1, 20) / 20, rng.randint(1, 20)) for _ in range(60)]

    def is_dominated(accuracy: float, cost: float) -> bool:
        return any(a >= accuracy and c <= cost and (a, c) != (accuracy, cost) for a, c in pairs)

    wanted = {f"1-{i + 1}" for i, pair in enumerate(pairs) if not is_dominated(*pair)}
    assert 2 < len(wanted) < 30
    assert front(study_of(*pairs)) == wanted


def test_equal_hierarchies_are_both_on_the_front() -> None:
    assert front(study_of((0.5, 10), (0.5, 10), (0.4, 10))) == {"1-1", "1-2"}


def test_a_front_has_no_pruned_and_no_infeasible_trials() -> None:
    study = study_of((0.5, 10))
    worse = {"hierarchy": "9-9", "num_parameters": 1}
    study.add_trial(create_trial(value=0.9, user_attrs=worse | {"feasible": False}))
    study.add_trial(
        create_trial(state=TrialState.PRUNED, intermediate_values={1: 0.9}, user_attrs=worse)
    )
    assert front(study) == {"1-1"}


def test_a_cost_that_is_not_recorded_says_how_a_study_gets_it() -> None:
    with pytest.raises(NoResultError, match="--against memory"):
        front_of(study_of((0.5, 10)), "memory")


def test_a_harvested_network_that_is_trained_globally_is_on_the_front_of_gaps() -> None:
    study = study_of((0.5, 10), gap_to_global=0.3)
    for hierarchy, value in (("2-2", 0.75), ("3-3", 0.9)):
        attributes = {"hierarchy": hierarchy, "harvested": True}
        study.add_trial(create_trial(value=value, user_attrs=attributes))
    reached = {"val_accuracy": 0.8, "num_parameters": 5, "time_s": 1.0}
    study.set_user_attr("global", {"2-2": reached})
    found = front_of(study, "gap")
    # 3-3 is not trained by back-propagation: its gap is unknown
    assert [(p.name, p.is_on_front) for p in found.points] == [("2-2", True), ("1-1", False)]
    assert found.points[0].costs == pytest.approx((0.05,))
    assert not found.rivals  # it has no gap to itself


def test_the_table_has_the_front_alone_and_the_figure_all() -> None:
    found = front_of(study_of((0.5, 10), (0.4, 20), (0.7, 30)))
    console = Console(width=120)
    with console.capture() as captured:
        console.print(front_table(found))
    table = captured.get()
    assert "1-1" in table
    assert "1-2" not in table
    assert "2 of 3 complete trials" in table
    drawn = pareto_figure(found)
    assert [len(trace.x) for trace in drawn.data] == [1, 2, 2]  # pyright: ignore[reportAttributeAccessIssue]


def test_the_page_escapes_names_and_needs_no_network(tmp_path) -> None:
    study = study_of((0.5, 10), hierarchy="<b>1</b>")
    write_front(front_of(study), "<i>s</i>", tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "<b>1</b>" not in page
    assert "<i>s</i>" not in page
    assert "default-src 'none'" in page


def test_the_command_reads_a_searched_study(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    searched()
    result = run("pareto", "tiny", "--against", "losses", "--json")
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    losses = [entry["losses"] for entry in summary["front"]]
    # ResNet with a loss on every convolution: the stem's and two a block
    for entry in summary["front"]:
        num_blocks = sum(map(int, entry["hierarchy"].split("-")))
        assert entry["losses"] == 1 + 2 * num_blocks
    assert losses == sorted(losses)


def test_an_unknown_cost_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("pareto", "tiny", "--against", "beauty")
    assert result.exit_code == 2
    assert (
        "must be one of parameters, flops, losses, shallow_scale, memory, time, gap"
        in result.stderr
    )
    (tmp_path / "s.toml").write_text('space = "digits"\n[budget]\nagainst = ["flops", "flops"]\n')
    result = run("search", "s.toml")
    assert (result.exit_code, "each once, but got 'flops,flops'" in result.stderr) == (2, True)


RIVALS = {
    "back-propagation": {"num_parameters": 10, "flops": 5},
    "checkpointed (nested)": {"num_parameters": 10, "flops": 9},
}


def test_back_propagation_stands_beside_a_front_of_several_costs() -> None:
    study = optuna.create_study(direction="maximize", study_name="s")
    for name, accuracy, num, flops in (
        ("1-1", 0.5, 10, 9),  # both rivals are more accurate at no more cost
        ("1-2", 0.6, 11, 4),
        ("2-1", 0.8, 10, 10),  # none is as accurate
        ("2-2", 0.6, 12, 4),  # 1-2 is smaller
    ):
        attrs = {"hierarchy": name, "num_parameters": num, "flops": flops}
        study.add_trial(create_trial(value=accuracy, user_attrs=attrs))
    reached = {"val_accuracy": 0.7, "num_parameters": 10, "time_s": 1.0, "costs": RIVALS}
    study.set_user_attr("global", {"2-1": reached})
    found = front_of(study, "parameters", "flops")
    beaten_by = {point.name: point.beaten_by for point in found.best}
    both = ("2-1 back-propagation", "2-1 checkpointed (nested)")
    assert beaten_by == {"1-1": both, "1-2": (), "2-1": ()}
    summary = front_summary(found, "s")
    assert summary["against"] == "parameters,flops"
    assert summary["rivals"][1] == {
        "hierarchy": both[1],
        "val_accuracy": 0.7,
        "parameters": 10,
        "flops": 9,
    }
    assert "1 of the 3 networks on the front are beaten" in front_table(found).caption
    # a trial that is on the front for one cost lies below others in the plane of the other
    assert [list(pareto_figure(found, i).data[2].x) for i in (0, 1)] == [[10, 10], [5, 9]]  # pyright: ignore[reportAttributeAccessIssue]


def test_the_hypervolume_of_a_front_grows_by_what_a_trial_adds() -> None:
    found = front_of(study_of((0.5, 10), (0.4, 30), (0.7, 20)))
    # above 0.4 and left of 30: 0.1 x 20, and then 0.2 x 10 more
    volumes = list(growth_figure(found).data[0].y)  # pyright: ignore[reportAttributeAccessIssue]
    assert volumes == pytest.approx([2.0, 2.0, 4.0])


@pytest.mark.parametrize("against", ["memory", "gap", "memory,time"])
def test_a_search_records_the_costs_that_it_weighs(tmp_path, monkeypatch, against) -> None:
    monkeypatch.chdir(tmp_path)
    budget = {"n_trials": 4, "cohort_size": 2, "strategy": "random", "against": against}
    search = searched(budget=budget, training={"epochs": 1})
    cost = COSTS[against.partition(",")[0]].attribute
    asked = [t for t in search.study.trials if not t.user_attrs.get("harvested")]
    for trial in asked:
        assert cost in trial.user_attrs
        if against == "gap":
            name = trial.user_attrs["hierarchy"]
            reached = search.study.user_attrs["global"][name]["val_accuracy"]
            assert trial.user_attrs[cost] == reached - trial.value
    if "time" in against:
        assert all(trial.user_attrs["step_s"] > 0 for trial in asked)
        found = front_of(search.study, "memory", "time")
        whole, again = found.rivals
        assert (whole.name.split()[1], again.name.split()[1]) == (
            "back-propagation",
            "checkpointed",
        )
        assert again.accuracy == whole.accuracy
        assert again.costs[0] < whole.costs[0]
    if "memory" in against:
        by_blocks = sorted(asked, key=lambda t: t.user_attrs["num_parameters"])
        smallest, largest = by_blocks[0].user_attrs, by_blocks[-1].user_attrs
        # weights and Adam's averages of the network at least, three numbers of 4 bytes each
        assert smallest[cost] > 12 * smallest["num_parameters"]
        assert largest[cost] > smallest[cost]


def test_a_strategy_that_sees_accuracy_alone_is_not_given_a_cost(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="choose --strategy nsga2"):
        searching(budget={"n_trials": 8, "cohort_size": 2, "strategy": "tpe", "against": "flops"})


def test_a_search_shows_the_front_that_it_was_for_and_pareto_remembers_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_study(Path("studies/tiny.toml"), budget={"n_trials": 4, "cohort_size": 1})
    args = ["search", "tiny", "--against", "shallow_scale", "--epochs", "1"]
    shown = run(*args)
    assert shown.exit_code == 0, shown.output
    assert re.search(r"\d of \d complete trials", shown.stdout)
    summary = json.loads(run(*args, "--json").stdout)
    read = json.loads(run("pareto", "tiny", "--json").stdout)
    assert summary["against"] == read["against"] == "shallow_scale"
    assert summary["front"] == read["front"] != []


def test_a_study_that_weighs_a_cost_is_searched_by_nsga2(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    search = searching(budget={"n_trials": 4, "cohort_size": 1, "against": "flops"})
    assert search.config.budget.strategy == "nsga2"
