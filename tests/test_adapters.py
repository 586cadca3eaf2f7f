"""A landscape in other tools says what the landscape says; with the tools themselves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

from dsaccel.analysis.landscape_files import read_landscape
from dsaccel.spec.hierarchy import Hierarchy

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
        assert trial.value == landscape.query(named(trial.params), seed=2, epoch=12, exit="head")
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
def test_a_blackbox_of_syne_tune_tells_what_was_measured_and_a_tuner_ends(tmp_path, monkeypatch):
    pytest.importorskip("syne_tune")
    monkeypatch.setenv("SYNETUNE_FOLDER", str(tmp_path))
    from syne_tune import StoppingCriterion, Tuner  # pyright: ignore[reportMissingImports]
    from syne_tune.backend.simulator_backend.simulator_callback import (  # pyright: ignore[reportMissingImports]
        SimulatorCallback,
    )
    from syne_tune.blackbox_repository import (  # pyright: ignore[reportMissingImports]
        UserBlackboxBackend,
    )
    from syne_tune.optimizer.baselines import (  # pyright: ignore[reportMissingImports]
        RandomSearch,
    )

    from dsaccel.adapters.syne_tune import ACCURACY, COST, blackbox

    shown, landscape = blackbox(PATH), read_landscape(PATH)
    asked = {"blocks_1": 1, "blocks_2": 1, "blocks_3": 1, "blocks_4": 3}
    for seed, epoch in ((1, 1), (3, 12)):
        told = shown.objective_function(asked, {"epoch": epoch}, seed=seed - 1)
        assert told[ACCURACY] == landscape.query(named(asked), seed=seed, epoch=epoch)
        flops = {h: network.flops for h, network in landscape.networks.items()}
        cost = epoch * flops[Hierarchy((1, 1, 1, 3))] / flops[Hierarchy((1, 1, 1, 1))]
        assert told[COST] == pytest.approx(cost)
    assert len(shown.hyperparameters) == 81
    backend = UserBlackboxBackend(shown, elapsed_time_attr=COST, max_resource_attr="epochs")
    space = shown.configuration_space | {"epochs": 12}
    tuner = Tuner(
        trial_backend=backend,
        scheduler=RandomSearch(space, metrics=[ACCURACY], do_minimize=False, random_seed=1),
        stop_criterion=StoppingCriterion(max_num_trials_finished=6),
        n_workers=2,
        sleep_time=0,
        callbacks=[SimulatorCallback()],
        save_tuner=False,
    )
    tuner.run()
    _, found = tuner.best_config()
    assert named(found) in map(str, landscape.networks)


def named(blocks: Mapping[str, Any]) -> str:
    return "-".join(str(blocks[f"blocks_{stage}"]) for stage in (1, 2, 3, 4))
