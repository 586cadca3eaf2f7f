"""A landscape in other tools says what the landscape says; with the tools themselves."""

import contextlib
from pathlib import Path

import optuna
import pytest

from dsaccel.analysis.landscape_files import read_landscape

pytestmark = pytest.mark.long

PATH = Path(__file__).parents[1] / "studies/landscapes/cifar10-resnet18.csv.gz"


def test_optuna_searches_a_landscape_as_a_benchmark_of_optunahub():
    from dsaccel.adapters.optunahub import LandscapeProblem

    problem = LandscapeProblem(PATH, seed=2, exit="head")
    study = optuna.create_study(
        directions=problem.directions, sampler=optuna.samplers.RandomSampler(seed=1)
    )
    study.optimize(problem, n_trials=30)
    landscape = read_landscape(PATH)
    for trial in study.trials:
        hierarchy = "-".join(str(trial.params[f"blocks_{stage}"]) for stage in (1, 2, 3, 4))
        assert trial.value == landscape.query(hierarchy, seed=2, epoch=12, exit="head")
    first = LandscapeProblem(PATH, seed=1, epoch=3)
    blocks = dict.fromkeys(first.search_space, 2)
    assert first.evaluate(blocks) == landscape.query("2-2-2-2", seed=1, epoch=3)


def test_a_hierarchy_that_the_space_forbids_is_pruned():
    from dsaccel.adapters.optunahub import LandscapeProblem

    problem = LandscapeProblem(PATH, seed=1)
    del problem.landscape.networks[next(iter(problem.landscape.networks))]  # 1-1-1-1
    with pytest.raises(optuna.TrialPruned, match="1-1-1-1 is outside of the space"):
        problem.evaluate(dict.fromkeys(problem.search_space, 1))


@pytest.mark.filterwarnings("ignore")  # of its own
def test_syne_tune_simulates_a_landscape(tmp_path, monkeypatch):
    pytest.importorskip("syne_tune")
    monkeypatch.setenv("SYNETUNE_FOLDER", str(tmp_path))
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend.simulator_backend.simulator_callback import SimulatorCallback
    from syne_tune.blackbox_repository import UserBlackboxBackend
    from syne_tune.optimizer.baselines import ASHA

    from dsaccel.adapters.syne_tune import ACCURACY, COST, blackbox

    shown, landscape = blackbox(PATH), read_landscape(PATH)
    asked = {"hierarchy": "1-1-1-3"}
    for seed, epoch in ((1, 1), (3, 12)):
        told = shown.objective_function(asked, {"epoch": epoch}, seed=seed - 1)
        assert told[ACCURACY] == landscape.query("1-1-1-3", seed=seed, epoch=epoch)
    space = shown.configuration_space | {"epochs": 12}
    scheduler = ASHA(
        *(space, ACCURACY),
        time_attr="epoch",
        max_t=12,
        do_minimize=False,
        random_seed=1,
    )
    tuner = Tuner(
        trial_backend=UserBlackboxBackend(shown, elapsed_time_attr=COST, seed=0),
        scheduler=scheduler,
        stop_criterion=StoppingCriterion(max_num_trials_finished=10),
        n_workers=2,
        sleep_time=0,
        callbacks=[SimulatorCallback()],
        results_update_interval=1e9,
        print_update_interval=1e9,
        save_tuner=False,
    )
    with contextlib.redirect_stdout(None):
        tuner.run()
    results = tuner.tuning_status.trial_rows
    assert results
    assert all(
        row[ACCURACY] == landscape.query(row["hierarchy"], seed=1, epoch=int(row["epoch"]))
        for row in results.values()
        if "epoch" in row
    )
