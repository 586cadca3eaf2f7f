"""What a search shows of itself after a rung: how far it is, its best, the time it still needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import Point
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import best_trial
from dsaccel.study.trials import Ledger
from dsaccel.ticks import Pace
from dsaccel.training.run import Run

Phase = Literal["search", "baseline"]
Later = Mapping[Phase, float]
"""What follows a phase: as so many hierarchies of the search, as so many baselines."""


@dataclass(frozen=True)
class Progress:
    """Where a search stands after a rung."""

    phase: Phase
    step_name: Literal["epoch", "stage"]
    step: int
    num_steps: int
    living: tuple[Hierarchy, ...]
    """The cohort's living hierarchies, best head first; those without a trained head come last."""
    num_trained: int
    """Distinct hierarchies that the study has trained to their end."""
    n_trials: int
    best: tuple[Hierarchy, float] | None
    """The best hierarchy so far and its validation accuracy."""
    leader: tuple[Hierarchy, float] | None
    """The leading hierarchy of the cohort and its deepest local head's accuracy."""
    time_left_s: float | None
    """The time left, with baseline and confirmation; None: not known yet, or nothing is left."""
    workers: str | None = None
    """What each worker trains, how long they wait for each other, and what is trained twice."""
    points: Mapping[Hierarchy, tuple[Point, ...]] = field(default_factory=dict)
    """The points that curves have gained since the rung before (see `runtime.curves`)."""


class Standing:
    """Where one run of a search stands."""

    def __init__(
        self, ledger: Ledger, n_trials: int, later: Callable[[StudyRecord], Later]
    ) -> None:
        """
        Args:
            ledger: of the study.
            n_trials: hierarchies to train, over all runs.
            later: what follows the phases of a study.
        """
        self._ledger = ledger
        self._n_trials = n_trials
        self._count_later = later
        self._later: Later | None = None
        self._paces: dict[Phase, Pace] = {"search": Pace(), "baseline": Pace()}
        self._read: tuple[int, int, tuple[Hierarchy, float] | None] | None = None

    def after(self, phase: Phase, run: Run, done: float, total: float) -> Progress:
        """The progress after the last rung of a run.

        Args:
            phase: what is trained.
            run: of its cohort.
            done: of the phase: hierarchies trained, parts of them counted too; epochs of a
                baseline.
            total: how many there will be.
        """
        rung = run.history[-1]
        without_head = [h for h in run.trie.asked if h not in rung.accuracies]
        ranked = [h for h in run.trie.asked if h in rung.accuracies]
        ranked.sort(key=rung.deepest_head, reverse=True)
        num_trained, best = self._read_study()
        return Progress(
            phase,
            run.schedule.step_name,
            rung.step,
            run.num_steps,
            (*ranked, *without_head),
            num_trained,
            max(self._n_trials, num_trained, 0 if phase == "baseline" else round(total)),
            best,
            (ranked[0], rung.deepest_head(ranked[0])) if ranked else None,
            self._time_left(phase, done, total),
            run.crew.line() if run.crew is not None else None,
            {h: read.points for h, read in rung.read.items() if read.points},
        )

    def _read_study(self) -> tuple[int, tuple[Hierarchy, float] | None]:
        """Hierarchies trained, and the best with its accuracy; read anew only after a tell."""
        num_told = self._ledger.num_told
        if self._read is None or self._read[0] != num_told:
            record = self._ledger.record()
            if self._later is None:  # once, and not while a storage that is away is waited for
                self._later = self._count_later(record)
            trial = best_trial(record)
            best = None
            if trial is not None and trial.value is not None:
                best = trial.hierarchy, trial.value
            self._read = num_told, len(record.trained), best
        return self._read[1:]

    def _time_left(self, phase: Phase, done: float, total: float) -> float | None:
        """From the pace of this phase since its first rung; None at that rung, where training has
        begun again, and when nothing is left.

        What follows is counted: the baseline, and the confirmation that is asked for.
        """
        later = (self._later or {}).get(phase, 0.0) * (total if phase == "baseline" else 1)
        return self._paces[phase].left_s(done, total + later)
