"""Who is confirmed, what the controls are, and the tuning of global back-propagation."""

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from tiny_study import config

from dsaccel.confirm.entrants import Entrants, GlobalSettings
from dsaccel.confirm.finalists import (
    choose_entries,
    matching_width,
    merge_entries,
    reference_hierarchies,
)
from dsaccel.confirm.tuning import layerwise_settings, tune
from dsaccel.errors import NoResultError
from dsaccel.families import build_plan
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.rows import Kind, Row
from dsaccel.study.trial_record import TrialRecord
from dsaccel.training.workbench import Bench

CONFIG = config(references=["2-2-2"], network={"width": 0.25})


def plan(hierarchy, width):
    network = CONFIG.network.model_copy(update={"width": width})
    parts = Hierarchy.parse(hierarchy)
    return build_plan("resnet18", parts, network, channels=1, side=8, num_classes=10)


def row(hierarchy: str, accuracy: float, kind: Kind = "complete", feasible: bool = True) -> Row:
    trial = TrialRecord(optuna.trial.create_trial(value=accuracy))
    return Row(0, hierarchy, kind, accuracy, 4, "epoch", feasible, None, None, None, None, trial)


RANKED = [
    row("1-1-4", 0.95),
    row("4-1-1", 0.94, "infeasible", feasible=False),
    row("1-2-3", 0.93),
    row("2-2-2", 0.92, "reference"),
    row("1-2-2", 0.91, "harvested"),
    row("3-2-1", 0.90),
    row("1-1-1", 0.89),
    row("1-1-2", 0.99, "pruned"),
]


def settings(**searched):
    return {"settings": searched}


def plan_of(study):
    return Entrants(Bench.load(study)).plan_at


def chosen(rows=RANKED, top=1, controls=True, study=CONFIG, plan=plan, **more):
    entries = choose_entries(rows, study, plan, top=top, controls=controls, **more)
    return {e.name: e for e in entries}


def test_back_propagations_own_best_of_the_feasible_is_a_rival_trained_by_it_alone():
    entries = chosen(controls=False, reached={"1-1-1": 0.9, "1-2-3": 0.95, "4-1-1": 0.99})
    assert entries["1-2-3"].roles == ("best by back-propagation",)
    assert entries["1-2-3"].modes == ("global",)
    same = chosen(controls=False, reached={"1-1-4": 0.96, "1-2-3": 0.95})
    assert same["1-1-4"].roles == ("finalist", "best by back-propagation")
    assert same["1-1-4"].modes == ("local", "global")
    assert set(chosen(controls=False, reached={})) == {"1-1-4", "2-2-2"}
    control = chosen(reached={"1-2-2": 0.96})["1-2-2"]
    assert {"fewer parameters", "best by back-propagation"} <= set(control.roles)
    assert control.modes == ("local", "global")


def roles(entries):
    return {name: entry.roles for name, entry in entries.items()}


def test_deep_supervision_is_a_control_and_no_finalist():
    study = config(
        space=settings(cuts={"choices": [True, False]}), network={"granularity": "block"}
    )
    rows = [
        row("1-1-2 cuts=false", 0.99),
        row("1-1-1 cuts=false", 0.98),
        row("1-1-1 cuts=true", 0.9),
    ]
    found = roles(chosen(rows=rows, study=study, plan=plan_of(study)))
    assert "finalist" in found["1-1-1 cuts=true"]
    assert found["1-1-2 cuts=false"] == ("deep supervision",)
    assert "1-1-1 cuts=false" not in found


def test_an_ensemble_is_compared_with_one_of_equal_cost():
    study = config(references=["2-2-2"], network={"width": 0.25, "output": "ensemble"})
    entries = chosen(study=study, plan=plan_of(study))
    uncut = entries["1-1-4@uncut"]
    assert uncut.roles == ("ensemble without cuts",)
    assert uncut.modes == ("local",)
    assert uncut.num_parameters == entries["1-1-4"].num_parameters
    made = Entrants(Bench.load(study))
    assert made.settings(uncut).network.cuts is False
    assert made.settings(entries["1-1-4"]).network.cuts is True
    assert "1-1-4@uncut" not in chosen(study=study, plan=plan_of(study), controls=False)
    assert "1-1-4@uncut" not in chosen()  # read at its output layer
    in_turn = study.model_copy(
        update={"training": study.training.model_copy(update={"schedule": "sequential"})}
    )
    assert "1-1-4@uncut" not in chosen(study=in_turn, plan=plan_of(study))


def test_an_ensemble_of_searched_settings_keeps_them_without_cuts():
    study = config(space=settings(width={"choices": [0.25, 0.5]}), network={"output": "ensemble"})
    entries = chosen(rows=[row("1-1-2 width=0.5", 0.9)], study=study, plan=plan_of(study))
    (name,) = [n for n, e in entries.items() if "ensemble without cuts" in e.roles]
    assert dict(Hierarchy.parse(name).settings) == {"width": 0.5, "cuts": False}
    assert entries[name].num_parameters == entries["1-1-2 width=0.5"].num_parameters


def test_finalists_are_the_best_that_completed_within_the_constraint():
    entries = chosen(top=3, controls=False)
    assert roles(entries) == {
        "1-1-4": ("finalist",),
        "1-2-3": ("finalist",),
        "2-2-2": ("finalist", "reference"),
    }
    with pytest.raises(NoResultError, match="needs a finished hierarchy"):
        chosen(rows=[row("1-1-2", 0.9, "pruned")])


def test_controls_have_no_more_than_the_reference_and_are_the_best_such():
    entries = chosen()
    reference = entries["2-2-2"]
    # 1-2-3, better, has more weights, and 1-1-4 as many convolutions as 2-2-2
    assert roles(entries)["1-2-2"] == ("fewer parameters",)
    assert entries["1-2-2"].num_parameters <= reference.num_parameters
    assert plan("1-2-3", 0.25).num_parameters > reference.num_parameters
    assert roles(entries)["1-1-4"] == ("finalist", "fewer losses")
    assert entries["1-1-4"].num_local_losses == reference.num_local_losses == 13


def test_the_reference_is_widened_to_the_winners_parameters_and_flops():
    entries = chosen(rows=[row("1-1-3", 0.95), *RANKED])
    winner = entries["1-1-3"]
    widened = {e.roles: e for e in entries.values() if e.name.startswith("2-2-2@")}
    more = widened["widened to parameters",]
    assert more.settings["network.width"] > 0.25
    assert more.num_parameters == pytest.approx(winner.num_parameters, rel=0.02)
    less = widened["widened to FLOPs",]
    # a block less: with the winner's FLOPs the reference is narrower
    assert less.settings["network.width"] < 0.25
    assert less.flops == pytest.approx(winner.flops, rel=0.03)
    assert more.hierarchy == less.hierarchy == "2-2-2"


@pytest.mark.parametrize("measure", ["num_parameters", "flops"])
@pytest.mark.parametrize("factor", [0.3, 1.8, 7.0])
def test_the_matching_width_is_the_best_of_all(measure, factor):
    target = round(factor * getattr(plan("2-2-2", 0.25), measure))
    found = matching_width(lambda w: plan("2-2-2", w), measure, target, 0.25)
    error = abs(getattr(plan("2-2-2", found), measure) - target)
    scan = (abs(getattr(plan("2-2-2", i / 512), measure) - target) for i in range(16, 512))
    assert error <= min(scan)
    assert len(f"{found:g}") <= 6


def test_a_width_that_changes_nothing_is_the_studys_own():
    target = plan("2-2-2", 0.25).flops
    assert matching_width(lambda w: plan("2-2-2", w), "flops", target, 0.25) == 0.25
    # the winner is the reference: there is nothing to widen
    assert not [name for name in chosen(rows=[row("2-2-2", 0.9)]) if "@" in name]


WIDTHS = {"choices": [0.125, 0.25]}
RATES = {"choices": [0.02, 0.01]}


def test_networks_of_a_searched_width_have_the_figures_of_their_own():
    study = config(references=["2-2-2"], network={"width": 0.125}, space=settings(width=WIDTHS))
    names = ("2-2-2 width=0.25", "2-2-1 width=0.25", "2-2-2 width=0.125", "1-2-2 width=0.125")
    entries = chosen([row(name, 0.9) for name in names], 2, study=study, plan=plan_of(study))
    # twice the width of the reference is the winner itself
    assert roles(entries) == {
        names[0]: ("finalist", "fewer losses", "widened to parameters", "widened to FLOPs"),
        names[1]: ("finalist",),
        names[2]: ("reference",),
        names[3]: ("fewer parameters",),
    }
    for name, entry in entries.items():
        counts, _, width = name.partition(" width=")
        own = plan(counts, float(width))
        assert (entry.num_parameters, entry.flops) == (own.num_parameters, own.flops)


def test_a_reference_with_settings_of_its_own_is_widened_to_the_winner():
    study = config(references=["2-2-2"], space=settings(learning_rate=RATES))
    rows = [row("1-1-3 learning_rate=0.01", 0.9)]
    entries = chosen(rows, study=study, plan=plan_of(study))
    reference = entries["2-2-2 learning_rate=0.02"]
    widened = {e.roles: e for e in entries.values() if " width=" in e.name}
    more = widened["widened to parameters",]
    assert more.name.startswith("2-2-2 learning_rate=0.02 width=0.0")
    assert more.hierarchy == more.name
    assert reference.num_parameters < more.num_parameters
    assert more.num_parameters == pytest.approx(entries[rows[0].hierarchy].num_parameters, rel=0.1)


def test_without_references_the_familys_standard_is_cut_to_the_spaces_stages():
    assert reference_hierarchies(config(references=[])) == ("2-2-2",)
    four = {"num_blocks": [[1, 2]] * 4}
    assert reference_hierarchies(config(references=[], space=four)) == ("2-2-2-2",)
    assert reference_hierarchies(config(references=["1-1-2", "2-2-2"])) == ("1-1-2", "2-2-2")
    searched = config(references=[], space=settings(learning_rate=RATES))
    assert reference_hierarchies(searched) == ("2-2-2 learning_rate=0.02",)


def test_entries_of_one_name_are_one_with_all_roles():
    first, second = chosen(top=2), chosen(top=3, controls=False)
    merged = {e.name: e for e in merge_entries([*second.values(), *first.values()])}
    assert list(merged)[:3] == ["1-1-4", "1-2-3", "2-2-2"]
    assert merged["1-1-4"].roles == ("finalist", "fewer losses")
    assert merged["2-2-2"].roles[:2] == ("finalist", "reference")
    # a residual block costs as many FLOPs at every stage: 2-2-2 has those of 1-1-4 as it is
    assert merged["2-2-2"].roles[2:] == ("widened to FLOPs",)


# ------------------------------------------------------------------ tuning


def quality(own: GlobalSettings) -> float:
    return 1 - abs(own.dropout - 0.3) - abs(own.learning_rate - 0.004)


def tuned(study, n_trials, train=quality, seed=1):
    return list(
        tune(study, lambda tried: map(train, tried), GlobalSettings(0.01, 0.1), n_trials, seed=seed)
    )


def test_the_first_settings_are_the_same_tried_together_or_one_after_another():
    whole, together = in_memory(), in_memory()
    tuned(whole, 12)
    sizes = []

    def train(tried):
        sizes.append(len(tried))
        return map(quality, tried)

    start = GlobalSettings(0.01, 0.1)
    list(tune(together, train, start, 12, seed=1, at_once=12))
    assert sizes == [10, 1, 1]
    assert [(t.params, t.value) for t in together.trials] == [
        (t.params, t.value) for t in whole.trials
    ]


def in_memory():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize")


def test_tuning_begins_with_the_studys_settings_and_keeps_the_best():
    study = in_memory()
    steps = tuned(study, 20)
    assert [step.number for step in steps] == list(range(1, 21))
    assert study.trials[0].params == {"learning_rate": 0.01, "dropout": 0.1}
    values = [trial.values[0] for trial in study.trials]
    assert steps[-1].best.values[0] == max(values) > values[0]
    rates = [trial.params["learning_rate"] for trial in study.trials]
    assert 0.001 <= min(rates) < 0.01 < max(rates) <= 0.1
    assert len(set(rates)) == 20


def test_tuning_that_was_cut_off_goes_on_to_the_same():
    whole, cut = in_memory(), in_memory()
    tuned(whole, 6)

    def failing_after(num):
        def train(own):
            if len(cut.get_trials(states=(TrialState.COMPLETE,))) == num:
                raise KeyboardInterrupt
            return quality(own)

        return train

    for num in (0, 3):
        with pytest.raises(KeyboardInterrupt):
            tuned(cut, 6, failing_after(num))
    assert tuned(cut, 6)[-1].number == 6
    done = cut.get_trials(states=(TrialState.COMPLETE,))
    assert [t.params for t in done] == [t.params for t in whole.trials]
    assert {t.state for t in cut.trials} == {TrialState.COMPLETE, TrialState.FAIL}
    # finished before: nothing is trained
    assert len(tuned(cut, 6, lambda _: pytest.fail("trained"))) == 1


def test_the_layerwise_sides_settings_are_counted_over_finished_trials():
    from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

    def trial(state=TrialState.COMPLETE, **params):
        distributions: dict[str, BaseDistribution] = {"blocks": IntDistribution(1, 9)}
        distributions |= {name: FloatDistribution(0, 1) for name in params}
        value = 0.5 if state == TrialState.COMPLETE else None
        return create_trial(
            state=state, value=value, params={"blocks": 1, **params}, distributions=distributions
        )

    assert layerwise_settings([trial(), trial()]) == 1
    assert layerwise_settings([]) == 1
    searched = [
        trial(learning_rate=0.1),
        trial(learning_rate=0.1),
        trial(TrialState.PRUNED, learning_rate=0.2),
        trial(TrialState.FAIL, learning_rate=0.3),
    ]
    assert layerwise_settings(searched) == 2
    assert layerwise_settings([trial(learning_rate=0.1, dropout=d) for d in (0.1, 0.2)]) == 2
    assert layerwise_settings([trial(beta=beta) for beta in (0.1, 0.2, 0.2)]) == 2
    assert layerwise_settings([trial(width=width) for width in (0.1, 0.2)]) == 1
