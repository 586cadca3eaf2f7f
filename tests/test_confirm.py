"""A confirmation: fresh seeds, one trie a seed, one look at the test split, nothing lost."""

import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from commands import run as cli
from helpers import spy_on_training
from PIL import Image
from tiny_study import config as tiny_config
from tiny_study import searched, write_study

from dsaccel.config.study import ConfirmConfig, RunConfig, StudyConfig
from dsaccel.confirm.entrants import Entrants, GlobalSettings
from dsaccel.confirm.progress import Work, with_time_left
from dsaccel.confirm.result import Entry, read_confirmation
from dsaccel.confirm.run import Confirm, fresh_seeds
from dsaccel.data.load import load_test
from dsaccel.errors import ConfigError, MismatchError, NoMemoryError, NoResultError
from dsaccel.study.cleaning import unneeded
from dsaccel.study.folder import StudyDir
from dsaccel.study.heads import read_right, right_path
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import best_trial
from dsaccel.study.storage import open_study, open_tuning
from dsaccel.training.cohort import Cohort
from dsaccel.training.descent import evaluate, right_images
from dsaccel.training.memory_limit import MemoryLimit
from dsaccel.training.train import Training
from dsaccel.training.workbench import Bench

pytestmark = pytest.mark.long

SMALL = {
    "references": ["2-2-2"],
    "training": {"epochs": 2, "batch_size": 16},
    "data": {"train_images": 32},
    "pruning": {"kind": "none"},
    "budget": {"n_trials": 4, "cohort_size": 4, "baseline": False},
    "network": {"dropout": 0.1},
}
ASKED = ConfirmConfig(top=2, num_seeds=2)
FEW = ConfirmConfig(top=1, num_seeds=1)


@pytest.fixture(scope="module")
def finished_search(tmp_path_factory):
    """A folder with a study that was searched."""
    folder = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        best = best_trial(searched(**SMALL).ledger.record())
        assert best is not None
        assert best.name != "2-2-2"
    return folder


@pytest.fixture(scope="module")
def finished(finished_search, tmp_path_factory):
    """The same, confirmed."""
    folder = tmp_path_factory.mktemp("confirmed")
    shutil.copytree(finished_search, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(confirming())
    return folder


@pytest.fixture
def study(finished_search, tmp_path, monkeypatch):
    """A searched study of one's own, in the working directory."""
    shutil.copytree(finished_search, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def confirmed(finished, tmp_path, monkeypatch):
    """A confirmed study of one's own, in the working directory."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A searched study of a folder of 8x8 images with val/ and test/, in the working directory."""
    monkeypatch.setenv("DSACCEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split, num in (("train", 24), ("val", 8), ("test", 8)):
        for name, brightness in (("dark", 60), ("light", 120)):
            made = tmp_path / "images" / split / name
            made.mkdir(parents=True)
            for index in range(num):
                pixels = rng.integers(brightness, brightness + 120, (8, 8, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(made / f"{index}.png")
    searched(**{**SMALL, "data": {"name": "images", "train_images": 32}})
    return tmp_path / "images"


def take_out(folder: Path, num: int) -> dict[Path, bytes]:
    """Delete some of the test images; returns what they held."""
    taken = {path: path.read_bytes() for path in sorted(folder.glob("test/*/*.png"))[:num]}
    for path in taken:
        path.unlink()
    return taken


def put_back(taken: dict[Path, bytes]) -> None:
    for path, content in taken.items():
        path.write_bytes(content)


def confirming(asked: ConfirmConfig = ASKED, config: StudyConfig | None = None) -> Confirm:
    directory = StudyDir("tiny")
    config = config or directory.read_config()
    return Confirm(config, directory, open_study(directory, config), asked, command="a test")


def run(confirm: Confirm) -> Confirm:
    for _ in confirm.run():
        pass
    return confirm


def trained_alone(
    config: StudyConfig, hierarchy: str, mode: Any, seed: int, rate: float | None = None, **network
) -> Training:
    """A network as `dsaccel train` trains it."""
    rate = rate or config.training.learning_rate
    training = Training(
        RunConfig(
            family=config.space.family,
            hierarchy=hierarchy,
            mode=mode,
            seed=seed,
            data=config.data,
            network=config.network.model_copy(update=network),
            training=config.training.model_copy(update={"learning_rate": rate}),
            runtime=config.runtime,
        )
    )
    for _ in training.cohort.rungs():
        pass
    return training


def measured(confirm) -> dict[tuple[str, str, int], float]:
    return {
        (r["name"], r["mode"], r["seed"]): r["val_accuracy"]
        for r in confirm.record.values["results"]
    }


def read(confirm) -> dict[tuple[str, str, int], float]:
    return {(r["name"], r["mode"], r["seed"]): r["accuracy"] for r in confirm.record.readings}


def forget() -> SimpleNamespace:
    """Take the confirmation out of the study; returns what it had measured."""
    whole = confirming()
    record = SimpleNamespace(values=whole.record.values, readings=whole.record.readings)
    whole.study.set_user_attr("confirmation", None)
    whole.study.set_user_attr("test_readings", [])
    return SimpleNamespace(record=record)


def test_seeds_are_fresh_distinct_and_always_the_same():
    seeds = fresh_seeds(1, 5)
    assert len({*seeds, 1}) == 6
    assert fresh_seeds(1, 3) == seeds[:3]
    assert fresh_seeds(2, 5) != seeds
    # a search that happened to have the first of them does not get it again
    assert seeds[0] not in fresh_seeds(seeds[0], 50)


def test_the_searchs_own_seed_would_be_skipped(monkeypatch):
    monkeypatch.setattr("dsaccel.confirm.run.derive", lambda seed, _, number: number << 32)
    assert fresh_seeds(2, 3) == [1, 3, 4]


def test_entries_are_finalists_references_and_controls_in_both_modes(confirmed):
    confirm = confirming()
    entries = {entry.name: entry for entry in confirm.record.result.entries}
    finalists = [e for e in entries.values() if "finalist" in e.roles]
    assert len(finalists) == 2
    assert "reference" in entries["2-2-2"].roles
    roles = {role for entry in entries.values() for role in entry.roles}
    assert {"fewer parameters", "widened to parameters", "widened to FLOPs"} <= roles
    seeds = fresh_seeds(confirm.config.seed, 2)
    expected = {(e.name, mode, s) for e in entries.values() for mode in e.modes for s in seeds}
    assert set(measured(confirm)) == set(read(confirm)) == expected
    assert {mode for name, mode, _ in expected if "@" in name} == {"local"}


@pytest.mark.parametrize("mode", ["local", "global"])
def test_each_accuracy_is_that_of_training_alone_with_that_seed(confirmed, mode):
    """Validation and test, to the last digit, against `dsaccel train`'s path."""
    confirm = confirming()
    config = confirm.config
    for entry in confirm.record.result.entries:
        if mode not in entry.modes or (mode == "local" and "fewer losses" in entry.roles):
            continue
        width = entry.settings.get("network.width", config.network.width)
        seed = confirm.seeds[1]
        training = trained_alone(config, entry.hierarchy, mode, seed, width=width)
        assert measured(confirm)[entry.name, mode, seed] == training.result().val_accuracy
        heads = confirm.record.result.heads[entry.name, mode][seed]
        assert list(heads) == training.result().head_accuracies[-1]
        test = load_test(training.data)
        last = evaluate(training.cohort.trie, training.cohort.learners, test.batches())
        assert read(confirm)[entry.name, mode, seed] == last[training.hierarchy].objective


def test_all_layerwise_networks_of_a_seed_are_one_trie_and_global_ones_share_nothing(study):
    jobs = confirming().jobs()
    entries = confirming().record.result.entries
    assert [(job.seed, len(job.entries)) for job in jobs if job.mode == "local"] == [
        (seed, len(entries)) for seed in fresh_seeds(1, 2)
    ]
    assert {len(job.entries) for job in jobs if job.mode == "global"} == {1}


def test_the_test_split_is_read_after_the_decision_and_once_for_each_network(study, monkeypatch):
    seen: list[int] = []

    def spying(data, **kwargs):
        attributes = open_study(StudyDir("tiny"), confirm.config).user_attrs["confirmation"]
        assert attributes["decisions"], "read before the decision"
        assert not confirm.jobs(), "read before all was trained"
        seen.append(data.seed)
        return load_test(data, **kwargs)

    monkeypatch.setattr("dsaccel.confirm.readings.load_test", spying)
    confirm = confirming(FEW)
    decided = None
    for progress in confirm.run():
        if progress.phase == "test":
            decided = decided or confirm.record.values["decisions"]
            assert confirm.record.values["decisions"] == decided
    assert set(
        Counter(
            tuple(r[k] for k in ("name", "mode", "seed")) for r in confirm.record.readings
        ).values()
    ) == {1}
    # one descent of the trie a seed, and one for each global network
    assert len(seen) == len(confirm.seeds) * (
        1 + sum("global" in e.modes for e in confirm.record.result.entries)
    )
    assert all(r["command"] == "a test" and r["date"] for r in confirm.record.readings)
    assert not StudyDir("tiny").confirmation.exists()


def test_the_networks_that_are_read_are_those_that_were_trained(confirmed, monkeypatch):
    """Bit for bit: accuracies alone would not tell, so near to guessing as these are."""
    forget()
    seen: dict[str, list[dict[str, torch.Tensor]]] = {}

    def spying(trie, learners, batches):
        for name in trie.asked:
            mode = "local" if len(trie.path(name)) > 1 else "global"
            units = [unit for node in trie.path(name) for unit in learners[node].units]
            seen[f"{name} {mode}"] = [unit.state_dict() for unit in units]
        return right_images(trie, learners, batches)

    monkeypatch.setattr("dsaccel.confirm.readings.right_images", spying)
    confirm = run(confirming(FEW))
    config = confirm.config
    for mode in ("local", "global"):
        training = trained_alone(config, "2-2-2", mode, confirm.seeds[0])
        for unit, state in zip(training.units, seen[f"2-2-2 {mode}"], strict=True):
            for key, tensor in unit.state_dict().items():
                assert torch.equal(tensor, state[key]), key


def test_the_decision_is_the_best_mean_on_validation_whatever_the_test_says(confirmed):
    confirm = confirming()
    by_name: dict[str, list[float]] = {}
    for (name, mode, _), accuracy in measured(confirm).items():
        if mode == "local" and "finalist" in confirm.record.result.entry(name).roles:
            by_name.setdefault(name, []).append(accuracy)
    best = max(by_name, key=lambda name: sum(by_name[name]))
    assert confirm.record.values["decisions"][-1]["best"] == confirm.record.result.best == best
    record = dict(confirm.record.values)
    flipped = [r | {"accuracy": float(r["name"] != best)} for r in confirm.record.readings]
    confirm.study.set_user_attr("test_readings", flipped)
    confirm.study.set_user_attr("confirmation", record)
    assert confirming().record.result.best == best
    assert confirming().record.result.best_finalist() == best


def test_which_test_images_are_right_is_kept_with_each_look(confirmed):
    confirm, heads = confirming(), StudyDir("tiny").heads
    for look in confirm.record.readings:
        right = read_right(heads, look)
        assert right is not None
        assert len(right) == confirm.record.values["num_images"]["test"]
        assert right.mean() == look["accuracy"]
    study = StudyRecord.read(confirm.study, StudyDir("tiny"))
    assert not {right_path(heads, look) for look in confirm.record.readings} & {
        *unneeded(StudyDir("tiny"), study)
    }
    confirmation = read_confirmation(study)
    assert confirmation is not None
    assert (confirmation.looks, confirmation.folder) == (confirm.record.readings, heads)
    look = confirm.record.readings[0]
    right_path(heads, look).write_text("{}")
    assert read_right(heads, look) is None


def test_a_second_confirmation_trains_nothing_and_reads_nothing(confirmed, monkeypatch):
    before = confirming()
    monkeypatch.setattr(Entrants, "cohort", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(
        "dsaccel.confirm.readings.load_test", lambda *_, **__: pytest.fail("read again")
    )
    after = run(confirming())
    assert after.is_finished
    assert after.record.readings == before.record.readings
    assert after.record.values == before.record.values
    # fewer are asked for: what is recorded stays
    assert run(confirming(ConfirmConfig(top=1, num_seeds=1))).record.values == before.record.values


def test_more_seeds_and_finalists_train_only_what_is_missing(confirmed, monkeypatch):
    before = confirming()
    old, old_read = measured(before), before.record.readings
    trained: list[tuple[str, str, int]] = []
    real = Entrants.cohort

    def spying(self, entries, mode, data, own, *memory):
        trained.extend((entry.name, mode, data.seed) for entry in entries)
        return real(self, entries, mode, data, own, *memory)

    monkeypatch.setattr(Entrants, "cohort", spying)
    after = run(confirming(ConfirmConfig(top=3, num_seeds=3)))
    new = set(measured(after)) - set(old)
    # each new network is made twice: to be trained, and to be read
    assert Counter(trained) == dict.fromkeys(new, 2)
    assert {k: v for k, v in measured(after).items() if k in old} == old
    assert after.record.readings[: len(old_read)] == old_read
    assert set(read(after)) == set(measured(after))
    assert {seed for *_, seed in measured(after)} == set(fresh_seeds(1, 3))
    assert len([e for e in after.record.result.entries if "finalist" in e.roles]) == 3
    assert len(after.record.values["decisions"]) == 2


# 3 networks or tries of 2 epochs each, then 3 readings: in one's middle, after one, in between
@pytest.mark.parametrize(("stop", "first"), [(1, [1]), (2, [0]), (7, [])])
def test_a_confirmation_that_was_cut_off_goes_on_to_the_same(confirmed, monkeypatch, stop, first):
    whole = forget()
    monkeypatch.setattr("dsaccel.training.checkpoint.INTERVAL_S", -1.0)
    cut = confirming(FEW)
    running = cut.run()
    for _ in range(stop):
        next(running)
    running.close()
    kept = dict(measured(cut))
    starts = spy_on_training(monkeypatch)
    resumed = run(confirming(FEW))
    assert starts[:1] == first
    assert kept.items() <= measured(resumed).items() <= measured(whole).items()
    assert read(resumed).items() <= read(whole).items()
    assert len(resumed.record.readings) == len(read(resumed)) == len(measured(resumed))
    assert not list(StudyDir("tiny").path.rglob("*.pt"))


def test_a_tuning_that_was_cut_off_goes_on_where_it_was_saved(study, monkeypatch):
    asked = FEW.model_copy(update={"controls": False, "tuning_trials": 2})
    monkeypatch.setattr("dsaccel.training.checkpoint.INTERVAL_S", -1.0)
    rungs = Cohort.rungs

    def cut(self):
        yield next(rungs(self))
        raise OSError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(Cohort, "rungs", cut)
        with pytest.raises(OSError, match="cut off"):
            run(confirming(asked))
    starts = spy_on_training(monkeypatch)
    resumed = run(confirming(asked)).record.values["tuning"]
    assert starts[:2] == [1, 0]
    trials = open_tuning(confirming(asked).study).trials
    assert [t.state.name for t in trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert trials[0].params == trials[1].params
    assert resumed["num_trials"] == 2


def in_parts(monkeypatch, num_networks: int) -> list[int]:
    """So many networks fit; returns how many are in each cohort that is begun."""
    begun: list[int] = []
    real = Cohort.rungs

    def spying(self):
        begun.append(len(self.trie.asked))
        return real(self)

    monkeypatch.setattr(Cohort, "rungs", spying)
    monkeypatch.setattr(
        MemoryLimit, "_fits", lambda self, names, plans, training: len(names) <= num_networks
    )
    return begun


def test_a_confirmation_in_little_memory_measures_what_it_does_in_much(confirmed, monkeypatch):
    whole = forget()
    begun = in_parts(monkeypatch, 2)
    little = run(confirming(FEW))
    assert max(begun) == 2
    assert measured(little).items() <= measured(whole).items()
    assert read(little).items() <= read(whole).items()
    assert len(little.record.readings) == len(measured(little))


def test_the_time_left_is_that_of_all_work_tuning_and_parts_counted(study, monkeypatch):
    in_parts(monkeypatch, 2)
    confirm = confirming(ConfirmConfig(top=2, num_seeds=1, tuning_trials=2))
    work, done, shown = Work(confirm), [], []
    for step in with_time_left(confirm):
        shown.append(step.time_left_s)
        if step.phase != "test":
            done.append(work.done(step))
    assert done == sorted(set(done))
    assert done[-1] == pytest.approx(work.total)
    # the global networks share nothing: each is all its FLOPs, in both epochs, and so is a trial
    own, entries = GlobalSettings(2e-2, 0.1), confirm.record.result.entries
    alone = [confirm.entrants._plan(entry, "global", own).flops for entry in entries]
    by_mode = {e.name: e.modes for e in entries}
    trained = [f for e, f in zip(entries, alone, strict=True) if "global" in by_mode[e.name]]
    least = 2 * (sum(trained) + 2 * alone[0])
    assert least < work.total < 4 * least
    assert None not in shown[1 : len(done) - 1]
    assert set(shown[len(done) :]) == {None}
    assert Work(confirm).total == 0


def test_a_confirmation_that_runs_out_of_memory_goes_on_in_parts(confirmed, monkeypatch):
    whole = forget()
    make = Cohort.learners.fget
    assert make is not None

    def learners(self):
        if len(self.trie.asked) > 2:
            raise MemoryError
        return make(self)

    monkeypatch.setattr(Cohort, "learners", property(learners))
    # reading needs no gradients: only what is trained together must be small
    little = run(confirming(FEW))
    assert measured(little).items() <= measured(whole).items()
    assert read(little).items() <= read(whole).items()


def test_a_confirmation_of_a_network_that_cannot_fit_is_refused(confirmed, monkeypatch):
    forget()
    monkeypatch.setattr(MemoryLimit, "_needed", lambda self, *_: 2 * self.limit_bytes)
    with pytest.raises(NoMemoryError, match="to train"):
        run(confirming(FEW))


def test_networks_whose_weights_are_gone_are_trained_again_to_the_same(confirmed):
    whole = forget()
    cut = confirming(FEW)
    for progress in cut.run():
        if progress.phase == "test":
            break
    assert len(cut.record.readings) < len(measured(cut))
    shutil.rmtree(StudyDir("tiny").confirmation)
    resumed = run(confirming(FEW))
    assert measured(resumed) == measured(cut)
    assert len(resumed.record.readings) == len(read(resumed)) == len(measured(resumed))
    assert read(resumed).items() <= read(whole).items()


def test_without_a_test_split_validation_alone_is_confirmed(study, monkeypatch):
    monkeypatch.setattr("dsaccel.data.sources.digits.Digits.has", lambda *_: False)
    monkeypatch.setattr("dsaccel.confirm.readings.load_test", lambda *_, **__: pytest.fail("read"))
    confirm = run(confirming(ConfirmConfig(top=1, num_seeds=1, controls=False)))
    assert confirm.is_finished
    assert confirm.record.readings == []
    assert confirm.record.result.best is not None
    assert not list(StudyDir("tiny").path.rglob("*.pt"))


def test_global_back_propagation_is_trained_with_its_tuned_settings(study):
    asked = ConfirmConfig(top=1, num_seeds=1, controls=False, tuning_trials=2)
    confirm = run(confirming(asked))
    tuning = confirm.record.values["tuning"]
    assert (tuning["num_trials"], tuning["num_layerwise"]) == (2, 1)
    trials = open_tuning(confirm.study).trials
    assert trials[0].params == {"learning_rate": 2e-2, "dropout": 0.1}
    best = max(trials, key=lambda t: (t.value, -t.number))
    assert tuning["val_accuracy"] == best.value
    assert (tuning["learning_rate"], tuning["dropout"]) == tuple(best.params.values())
    own, entry = GlobalSettings(*best.params.values()), confirm.record.result.entries[0]
    assert confirm.entrants.training(entry, "global", own).learning_rate == own.learning_rate
    assert confirm.entrants.training(entry, "local", own) == confirm.config.training
    made = {
        mode: confirm.entrants.cohort([entry], mode, confirm.entrants.load_data(1), own)
        for mode in entry.modes
    }
    dropouts = {mode: c.trie.roots[0].segment.layers[0].dropout for mode, c in made.items()}
    assert dropouts == {"local": 0.1, "global": own.dropout}
    # trained by hand with what was found, on the search's seed and on a fresh one
    name, config = tuning["tuned_on"], confirm.config
    for seed, trial in [(config.seed, t) for t in trials] + [(confirm.seeds[0], best)]:
        rate, dropout = trial.params["learning_rate"], trial.params["dropout"]
        training = trained_alone(config, name, "global", seed, rate, dropout=dropout)
        reached = training.result().val_accuracy
        if seed == config.seed:
            assert reached == trial.value
        else:
            assert reached == measured(confirm)[name, "global", seed]
    with pytest.raises(ConfigError, match="tuning_trials must stay 2"):
        confirming(asked.model_copy(update={"tuning_trials": 3}))
    assert confirming(asked.model_copy(update={"tuning_trials": None})).is_finished


def test_other_images_than_the_searchs_are_refused(study):
    confirm = confirming()
    confirm.study.set_user_attr("fingerprint", "0" * 32)
    with pytest.raises(MismatchError, match="images are not those"):
        confirming()


FOLDER = ConfirmConfig(top=1, num_seeds=1, controls=False)
MORE = FOLDER.model_copy(update={"num_seeds": 2})


def test_other_test_images_than_those_of_the_readings_are_refused_before_training(folder):
    before = run(confirming(FOLDER))
    taken = take_out(folder, 3)
    assert measured(confirming(FOLDER)) == measured(run(confirming(FOLDER)))  # shown as it is
    more = confirming(MORE)
    with pytest.raises(MismatchError, match=r"the 13 test images are not those .* put the earlier"):
        run(more)
    assert measured(more) == measured(before)
    assert more.record.readings == before.record.readings
    result = cli("confirm", "tiny", "--top", "1", "--seeds", "2", "--no-controls", "-q")
    assert result.exit_code == MismatchError.exit_code == 5, result.output
    put_back(taken)
    after = run(confirming(MORE))
    assert {seed for *_, seed in read(after)} == set(fresh_seeds(1, 2))
    assert after.record.values["num_images"]["test"] == 16


def test_test_images_that_are_gone_are_refused_where_some_were_read(folder):
    before = run(confirming(FOLDER))
    test = Path(confirming(FOLDER).config.data.name) / "test"
    test.rename("away")
    more = confirming(MORE)
    with pytest.raises(MismatchError, match="has no test images, but this confirmation was read"):
        run(more)
    assert measured(more) == measured(before)
    Path("away").rename(test)
    assert {seed for *_, seed in read(run(confirming(MORE)))} == set(fresh_seeds(1, 2))


def test_test_images_that_change_between_two_readings_are_refused_and_nothing_is_lost(folder):
    cut = confirming(FOLDER)
    for progress in cut.run():
        if progress.phase == "test":
            break
    assert 0 < len(cut.record.readings) < len(measured(cut))
    taken = take_out(folder, 1)
    with pytest.raises(MismatchError, match="test images are not those"):
        run(confirming(FOLDER))
    assert confirming(FOLDER).record.readings == cut.record.readings
    put_back(taken)
    assert set(read(run(confirming(FOLDER)))) == set(measured(cut))


def test_readings_without_a_recorded_fingerprint_stay_and_the_next_one_records_it(folder):
    old = run(confirming(FOLDER))
    recorded = old.record.values.pop("test_fingerprint")
    old.study.set_user_attr("confirmation", old.record.values)
    after = run(confirming(MORE))
    assert after.record.readings[: len(old.record.readings)] == old.record.readings
    assert after.record.values["test_fingerprint"] == recorded


def test_with_a_given_val_folder_no_seed_is_said_to_have_its_own_split(folder):
    confirm = run(confirming(FOLDER))
    first, second = (confirm.entrants.load_data(seed).val for seed in fresh_seeds(1, 2))
    assert first.fingerprint == second.fingerprint
    command = ("confirm", "tiny", "--top", "1", "--seeds", "1", "--no-controls", "--json")
    summary = json.loads(cli(*command).stdout)
    assert summary["val_is_given"]
    assert summary["split"] == (
        "the validation images that the search chose by, the same for every seed"
    )
    text = " ".join(summary["sentences"])
    assert "all seeds share the 16 validation images that the search chose by" in text
    assert "the test split alone is fresh" in text
    # and on the page
    assert "the test split alone is fresh" in Path("studies/tiny/report.html").read_text()


def test_with_a_given_val_folder_and_no_test_split_no_image_is_said_to_be_fresh(folder):
    shutil.rmtree(folder / "test")
    result = cli("confirm", "tiny", "--top", "1", "--seeds", "1", "--no-controls", "--json")
    assert "no test split: the confirmation is on validation alone, and no image is fresh" in (
        result.stderr
    )
    assert "no figure is of fresh images" in " ".join(json.loads(result.stdout)["sentences"])


# ------------------------------------------------------------------ commands


def test_the_command_shows_and_writes_the_confirmation(confirmed):
    result = cli("confirm", "tiny", "--top", "2", "--seeds", "2", "--json")
    assert result.exit_code == 0, result.output
    assert "all of it is trained and read" in result.stderr
    summary = json.loads(result.stdout)
    stored = json.loads(Path("studies/tiny/confirmation.json").read_text())
    assert {k: v for k, v in summary.items() if k != "files"} == stored
    assert summary["seeds"] == fresh_seeds(1, 2)
    assert summary["split"] == "each seed's own validation images"
    assert not summary["val_is_given"]
    assert len(summary["test_readings"]) == sum(
        r["accuracy"]["test"]["n"] for r in summary["results"]
    )
    best = summary["results"][0]
    assert best["accuracy"]["val"]["n"] == 2
    rows = Path("studies/tiny/confirmation.csv").read_text().splitlines()
    assert len(rows) == 1 + len(summary["test_readings"])
    assert len(Path("studies/tiny/test_readings.csv").read_text().splitlines()) == len(rows)
    assert all(Path(path).is_file() for path in summary["files"].values())
    shown = cli("confirm", "tiny", "--top", "2", "--seeds", "2", "-q")
    assert shown.stderr == ""
    assert "Decided on validation" in shown.stdout
    page = Path("studies/tiny/report.html").read_text()
    assert 'id="confirmation"' in page
    assert "the test split was read for the confirmation alone" in page


@pytest.mark.parametrize(
    ("args", "code", "named"),
    [
        (["confirm", "nothing"], 2, "a study that was run"),
        (["confirm", "tiny", "--top", "0"], 2, "top"),
        (["confirm", "tiny", "--seeds", "0"], 2, "num_seeds"),
        (["confirm", "tiny", "--resolution", "0"], 2, "above 0"),
    ],
)
def test_bad_arguments_exit_2_with_the_value(study, args, code, named):
    result = cli(*args)
    assert result.exit_code == code, result.output
    assert named in result.stderr


def test_a_study_without_a_winner_is_not_confirmed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_study(Path("studies/tiny.toml"), **SMALL)
    assert cli("search", "tiny", "--timeout", "0.001", "-q").exit_code == 0
    result = cli("confirm", "tiny")
    assert result.exit_code == NoResultError.exit_code
    assert "needs a finished hierarchy" in result.stderr


def test_search_confirms_at_its_end_when_asked_and_not_otherwise(study):
    write_study(Path("studies/tiny.toml"), **SMALL)
    without = json.loads(cli("search", "tiny", "--json").stdout)
    assert "confirmation" not in without
    few = [
        "--set",
        "confirm.top=1",
        "--set",
        "confirm.num_seeds=1",
        "--set",
        "confirm.controls=false",
    ]
    result = cli("search", "tiny", "--confirm", *few, "--json")
    assert result.exit_code == 0, result.stderr
    confirmation = json.loads(result.stdout)["confirmation"]
    assert confirmation["seeds"] == fresh_seeds(1, 1)
    assert confirmation["test_readings"][0]["command"] == (
        "dsaccel search studies/tiny/study.toml --confirm"
    )
    assert "every lead is a tie" in " ".join(confirmation["sentences"])
    # asked for on the command line, recorded beside the study, no other results
    assert "enabled = true" in Path("studies/tiny/study.toml").read_text()
    assert cli("search", "tiny", "--no-confirm").exit_code == 0


def test_global_settings_and_a_width_take_the_place_of_those_that_were_searched():
    searched_settings = {
        "family": "resnet18",
        "num_blocks": [[1, 2]] * 3,
        "settings": {
            "learning_rate": {"choices": [0.01, 0.02]},
            "dropout": {"choices": [0.0, 0.2]},
            "width": {"choices": [0.0625, 0.125]},
        },
    }
    config = tiny_config(**{**SMALL, "space": searched_settings, "references": []})
    entrants = Entrants(Bench.load(config))
    name = "1-1-2 learning_rate=0.02 dropout=0.2 width=0.0625"
    entry = Entry(name, name, {}, ("finalist",), 1, 1, 1)
    own = GlobalSettings(learning_rate=0.005, dropout=0.3)
    data = entrants.load_data(1)

    def trained_with(mode):
        cohort = entrants.cohort([entry], mode, data, own)
        segments = [node.segment for node in cohort.trie.path(entry.key)]
        rates = {learner.learning_rate for learner in cohort.learners.values()}
        return rates, max(layer.dropout for s in segments for layer in s.layers)

    assert trained_with("local") == ({0.02}, 0.2)
    assert trained_with("global") == ({0.005}, 0.3)
    narrow, wide = entrants.plan_at(name, 0.0625), entrants.plan_at(name, 0.25)
    assert wide.num_parameters > 4 * narrow.num_parameters
