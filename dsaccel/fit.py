"""The best network that can be trained in a memory and a time, however it is trained.

A hierarchy is searched layer-wise; then the winner and the family's standard are trained by
back-propagation, and the winner with fewer cuts, each with the same recipe on the same images, if
it fits. Who has the highest validation accuracy is chosen: where back-propagation fits and is
better, it wins. What has been trained is kept, and a fit that was stopped goes on.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from dsaccel.api import Study
from dsaccel.config.study import RunConfig
from dsaccel.config.toml import write_toml
from dsaccel.errors import ConfigError, NoMemoryError, NoResultError
from dsaccel.files import make_folder, remove_file, write_json
from dsaccel.nn.units import RUNS
from dsaccel.nn.weights import save_weights
from dsaccel.planner import Planner
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.study.folder import StudyDir
from dsaccel.study.lease import folder_lock
from dsaccel.study.rows import standard_error
from dsaccel.text import about, percent
from dsaccel.training.checkpoint import remove_checkpoint
from dsaccel.training.memory import checkpointed
from dsaccel.training.train import Training
from dsaccel.training.workbench import Workbench

SEARCH_SHARE = 0.5
"""The search's share of the time; the rest goes to the networks it is compared with."""


@dataclass(frozen=True)
class Contender:
    """A network and a way to train it."""

    name: str
    """`layer-wise 1-1-2-2`."""
    run: RunConfig

    @property
    def key(self) -> str:
        """Equal for what trains the same."""
        return sha256(self.run.model_dump_json().encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Outcome:
    """The result of a contender."""

    name: str
    key: str
    val_accuracy: float | None
    """None: it was not trained."""
    why: str
    """Why it was not."""
    time_s: float | None = None
    is_final: bool = True
    """Whether it would come to the same with more time."""


@dataclass(frozen=True)
class Begun:
    """A fit that was begun: `fit.json` in the study's folder."""

    path: Path
    asked: Mapping[str, Any]
    """What the user has asked for."""
    pace: float
    """Seconds of a training step by the FLOPs of one image."""
    outcomes: tuple[Outcome, ...] = ()

    @classmethod
    def read(cls, directory: StudyDir, asked: Mapping[str, Any]) -> "Begun | None":
        """The fit of a study, if one was begun there.

        Raises:
            ConfigError: if it is done, or was asked for something else.
        """
        path = directory.path / "fit.json"
        if not path.is_file():
            return None
        with suppress(ValueError, KeyError, TypeError):
            told = json.loads(path.read_text(encoding="utf-8"))
            if told["asked"] == json.loads(json.dumps(asked)) and "sentence" not in told:
                outcomes = tuple(Outcome(**each) for each in told["outcomes"])
                return cls(path, asked, float(told["pace"]), outcomes)
        raise ConfigError(
            f"{path} is of a fit that is done, or that was asked for something else; choose "
            "another --name, or ask for the same to go on with one that was stopped"
        )

    def write(self, **more: Any) -> None:
        make_folder(self.path.parent)
        told = {"asked": self.asked, "pace": self.pace}
        write_json(self.path, told | {"outcomes": [asdict(o) for o in self.outcomes]} | more)


class Fit:
    """A study, its search and its contenders."""

    def __init__(self, begun: Begun, study: Study, deadline: float) -> None:
        """
        Args:
            begun: what was reached before.
            study: to be searched.
            deadline: when all must be done, by `time.perf_counter`.
        """
        self.study, self._begun, self._deadline = study, begun, deadline
        self.outcomes: list[Outcome] = []

    @property
    def weights(self) -> Path:
        return self.study.folder / "fit.safetensors"

    @property
    def config(self) -> Path:
        return self.study.folder / "fit.toml"

    @property
    def files(self) -> dict[str, str]:
        """What each file holds, and where it lies."""
        files = {"weights": self.weights, "config": self.config}
        files["report"] = self.study.folder / "report.html"
        return {label: path.as_posix() for label, path in files.items()}

    def contend(self, tell: Callable[[str], object]) -> None:
        """Train what the search's winner is compared with, as far as memory and time allow, and
        write the best network's weights, its config and `fit.json`.

        Raises:
            NoResultError: if the search has no winner.
            StorageError: if another process trains here.
        """
        with folder_lock(StudyDir(self.study.folder.name, self.study.folder.parent)):
            first, *others = every = contenders(self.study)
            winner = self.study.best
            assert winner is not None
            self.outcomes = [Outcome(first.name, first.key, winner.accuracy, "", winner.time_s)]
            for contender in others:
                outcome = self._known(contender)
                if outcome is None:
                    tell(f"{contender.name} ...")
                    outcome = self._train(contender)
                    tell(f"{outcome.name}: {outcome.why or percent(outcome.val_accuracy)}")
                self.outcomes.append(outcome)
                replace(self._begun, outcomes=tuple(self.outcomes)).write()
                remove_checkpoint(self._checkpoint)
            self._write(every[self.outcomes.index(self.chosen)])

    @property
    def chosen(self) -> Outcome:
        """The highest accuracy; of equals the first, which is the layer-wise one."""
        return max(self.outcomes, key=lambda outcome: outcome.val_accuracy or 0)

    def sentence(self) -> str:
        """Which one is chosen, and why."""
        chosen = self.chosen
        others = [o for o in self.outcomes if o is not chosen]
        compared = "; ".join(f"{o.name} {o.why or percent(o.val_accuracy)}" for o in others)
        error = standard_error(self.study.record, chosen.val_accuracy)
        noise = f", of which one standard error is {100 * error:.2f} points" if error else ""
        return (
            f"{chosen.name} is chosen for the highest validation accuracy, "
            f"{percent(chosen.val_accuracy)}{noise}: {compared or 'nothing else was trained'}"
        )

    @property
    def _checkpoint(self) -> Path:
        return self.study.folder / "fit.checkpoint.pt"

    def _kept(self, key: str) -> Path:
        """The weights of a contender that was trained."""
        return self.study.folder / f"fit-{key}.safetensors"

    def _known(self, contender: Contender) -> Outcome | None:
        """The outcome of a contender that was trained before."""
        for known in self._begun.outcomes:
            is_kept = known.val_accuracy is None or self._kept(known.key).is_file()
            if known.key == contender.key and known.is_final and is_kept:
                return known
        return None

    def _train(self, contender: Contender) -> Outcome:
        name, key = contender.name, contender.key
        try:
            training = Training(contender.run)
            needed, left = self._seconds(training), self._deadline - time.perf_counter()
            if needed > left:
                missing = f"it takes about {about(needed)}, {about(max(left, 0))} is left"
                return Outcome(name, key, None, f"not trained: {missing}", is_final=False)
            for _ in training.rungs(self._checkpoint):
                pass
            result = training.result()
        except NoMemoryError as error:
            return Outcome(name, key, None, f"not trained: {error}", is_final=False)
        except NoResultError:
            return Outcome(name, key, None, "diverged")
        keeps_all = self.study.config.runtime.all_heads
        exit_heads = None if keeps_all else len(training.plan.exit_heads)
        run = self._with_result(contender.run, {"val_accuracy": result.val_accuracy})
        save_weights(self._kept(key), training.units, run, training.facts, exit_heads)
        return Outcome(name, key, result.val_accuracy, "", result.time_s)

    def _with_result(self, run: RunConfig, reached: dict[str, Any]) -> RunConfig:
        return run.model_copy(update={"result": reached | self.study.record.environment})

    def _seconds(self, training: Training) -> float:
        flops = sum(segment.flops for segment in training.plan.segments)
        steps = training.data.num_steps * training.run.training.epochs
        again = 1 + len(RUNS[training.run.training.recompute]) / 3
        return self._begun.pace * flops * steps * again

    def _write(self, chosen: Contender) -> None:
        """Keep the best network alone."""
        sentence = self.sentence()
        reached = {"val_accuracy": self.chosen.val_accuracy, "chosen": sentence}
        write_toml(self.config, self._with_result(chosen.run, reached))
        is_winner = self.chosen is self.outcomes[0]
        best = self.study.folder / "best.safetensors"
        shutil.copyfile(best if is_winner else self._kept(chosen.key), self.weights)
        replace(self._begun, outcomes=tuple(self.outcomes)).write(sentence=sentence)
        for kept in self.study.folder.glob("fit-*.safetensors"):
            remove_file(kept)


def contenders(study: Study) -> list[Contender]:
    """The search's winner first; then what it is compared with.

    Raises:
        NoResultError: if the search has none.
    """
    best = study.run_config().model_copy(update={"result": None})
    standards = [Hierarchy.parse(text) for text in study.config.references]
    own = Hierarchy.parse(best.hierarchy)
    found = [Contender(f"layer-wise {own}", best)]
    for hierarchy in dict.fromkeys((own, *standards)):
        found += _global(best, hierarchy, study.engine.bench)
    found += [
        Contender(f"{own} cut {words}", _cut(best, granularity))
        for words, granularity in _cuts(own.num_stages)
        if best.network.granularity != granularity
    ]
    return found


def _global(run: RunConfig, hierarchy: Hierarchy, bench: Workbench) -> Iterator[Contender]:
    whole = run.model_copy(update={"mode": "global", "hierarchy": str(hierarchy)})
    plan = Planner.of(whole, bench.data.num_classes)(hierarchy, "global")
    if _fits(plan, run, bench):
        yield Contender(f"back-propagation through {hierarchy}", whole)
        return
    training = checkpointed(plan, run.training)
    name = f"checkpointed back-propagation through {hierarchy}"
    yield Contender(name, whole.model_copy(update={"training": training}))


def _fits(plan: Plan, run: RunConfig, bench: Workbench) -> bool:
    try:
        bench.memory_limit().check({plan.hierarchy: plan}, run.training)
    except NoMemoryError:
        return False
    return True


def _cuts(num_stages: int) -> list[tuple[str, str | tuple[str, ...]]]:
    """The cuts after each stage, and one in the middle."""
    middle = ["none"] * num_stages
    middle[(num_stages - 1) // 2] = "stage"
    return [("after each stage", "stage"), ("in two", tuple(middle))]


def _cut(run: RunConfig, granularity: str | tuple[str, ...]) -> RunConfig:
    network = run.network.model_copy(update={"granularity": granularity})
    return run.model_copy(update={"network": network})
