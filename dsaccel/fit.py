"""The best network that can be trained in a memory and a time, however it is trained.

A hierarchy is searched layer-wise; then the winner and the family's standard are trained by
back-propagation, and the winner with fewer cuts, each with the same recipe on the same images, if
it fits. Who has the highest validation accuracy is chosen: where back-propagation fits and is
better, it wins.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from dsaccel.api import Study
from dsaccel.config.study import RunConfig
from dsaccel.config.toml import write_toml
from dsaccel.errors import NoMemoryError, NoResultError
from dsaccel.files import write_json
from dsaccel.nn.units import RUNS
from dsaccel.nn.weights import save_weights
from dsaccel.planner import Planner
from dsaccel.search.new_study import NewStudy
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.study.rows import standard_error
from dsaccel.text import about, percent
from dsaccel.training.memory import checkpointed
from dsaccel.training.train import Training

SEARCH_SHARE = 0.5
"""The search's share of the time; the rest goes to the networks it is compared with."""


@dataclass(frozen=True)
class Contender:
    """A network and a way to train it."""

    name: str
    """`layer-wise 1-1-2-2`."""
    run: RunConfig


@dataclass(frozen=True)
class Outcome:
    """The result of a contender."""

    name: str
    val_accuracy: float | None
    """None: it was not trained."""
    why: str
    """Why it was not."""
    time_s: float | None = None


class Fit:
    """A new study, its search and its contenders."""

    def __init__(self, made: NewStudy, study: Study, deadline: float) -> None:
        """
        Args:
            made: the study, with the time that three steps took.
            study: the same, to be searched.
            deadline: when all must be done, by `time.perf_counter`.
        """
        self.made, self.study, self._deadline = made, study, deadline
        self.outcomes: list[Outcome] = []
        self._best: tuple[Contender, Training | None] | None = None

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
        """
        first, *others = contenders(self.study, self.made)
        winner = self.study.best
        assert winner is not None
        self.outcomes = [Outcome(first.name, winner.accuracy, "", winner.time_s)]
        self._best = first, None
        for contender in others:
            tell(f"{contender.name} ...")
            outcome, training = self._train(contender)
            tell(f"{outcome.name}: {outcome.why or percent(outcome.val_accuracy)}")
            if (outcome.val_accuracy or 0) > (self.chosen.val_accuracy or 0):
                self._best = contender, training
            self.outcomes.append(outcome)
        self._write()

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

    def _train(self, contender: Contender) -> tuple[Outcome, Training | None]:
        name = contender.name
        try:
            training = Training(contender.run)
            needed, left = self._seconds(training), self._deadline - time.perf_counter()
            if needed > left:
                missing = f"it takes about {about(needed)}, {about(max(left, 0))} is left"
                return Outcome(name, None, f"not trained: {missing}"), None
            for _ in training.rungs():
                pass
            result = training.result()
        except NoMemoryError as error:
            return Outcome(name, None, f"not trained: {error}"), None
        except NoResultError:
            return Outcome(name, None, "diverged"), None
        return Outcome(name, result.val_accuracy, "", result.time_s), training

    def _seconds(self, training: Training) -> float:
        flops = sum(segment.flops for segment in training.plan.segments)
        steps = training.data.num_steps * training.run.training.epochs
        again = 1 + len(RUNS[training.run.training.recompute]) / 3
        return self.made.forecast.pace * flops * steps * again

    def _write(self) -> None:
        assert self._best is not None
        contender, training = self._best
        reached = {"val_accuracy": self.chosen.val_accuracy, "chosen": self.sentence()}
        result = reached | self.study.record.environment
        run = contender.run.model_copy(update={"result": result})
        write_toml(self.config, run)
        if training is None:
            shutil.copyfile(self.study.folder / "best.safetensors", self.weights)
        else:
            runtime, exit_heads = self.study.config.runtime, training.plan.exit_heads
            num_heads = None if runtime.all_heads else len(exit_heads)
            save_weights(self.weights, training.units, run, training.facts, num_heads)
        told = {"sentence": self.sentence(), "outcomes": [asdict(o) for o in self.outcomes]}
        write_json(self.study.folder / "fit.json", told)


def contenders(study: Study, made: NewStudy) -> list[Contender]:
    """The search's winner first; then what it is compared with.

    Raises:
        NoResultError: if the search has none.
    """
    best = study.run_config().model_copy(update={"result": None})
    standards = [Hierarchy.parse(text) for text in study.config.references]
    own = Hierarchy.parse(best.hierarchy)
    found = [Contender(f"layer-wise {own}", best)]
    for hierarchy in dict.fromkeys((own, *standards)):
        found += _global(best, hierarchy, made)
    found += [
        Contender(f"{own} cut {words}", _cut(best, granularity))
        for words, granularity in _cuts(own.num_stages)
        if best.network.granularity != granularity
    ]
    return found


def _global(run: RunConfig, hierarchy: Hierarchy, made: NewStudy) -> Iterator[Contender]:
    whole = run.model_copy(update={"mode": "global", "hierarchy": str(hierarchy)})
    plan = Planner.of(whole, made.bench.data.num_classes)(hierarchy, "global")
    if _fits(plan, run, made):
        yield Contender(f"back-propagation through {hierarchy}", whole)
        return
    training = checkpointed(plan, run.training)
    name = f"checkpointed back-propagation through {hierarchy}"
    yield Contender(name, whole.model_copy(update={"training": training}))


def _fits(plan: Plan, run: RunConfig, made: NewStudy) -> bool:
    try:
        made.bench.memory_limit().check({plan.hierarchy: plan}, run.training)
    except NoMemoryError:
        return False
    return True


def _cuts(num_stages: int) -> list[tuple[str, str | tuple[str, ...]]]:
    """After each stage, and once in the middle."""
    middle = ["none"] * num_stages
    middle[(num_stages - 1) // 2] = "stage"
    return [("after each stage", "stage"), ("in two", tuple(middle))]


def _cut(run: RunConfig, granularity: str | tuple[str, ...]) -> RunConfig:
    network = run.network.model_copy(update={"granularity": granularity})
    return run.model_copy(update={"network": network})
