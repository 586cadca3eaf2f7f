"""The rows of a stored study: one trial is one hierarchy, and every row is a real network."""

from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy, parse_hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.rung import RankedBy
from dsaccel.training.cohort import Cohort

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
CONSTRAINT = "in the space"
"""What Optuna calls a trial's constraint: kept if at most 0."""


class Ledger:
    """Opens, reports and tells the trials of a study, each exactly once."""

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        plan: Callable[[Hierarchy], Plan],
        by: RankedBy = "head",
        costs: Callable[[Cohort, str], dict[str, float]] = lambda cohort, name: {},
    ) -> None:
        self.study = study
        self._space = space
        self._plan = plan
        self._costs = costs
        self._by: RankedBy = by
        self._open: dict[str, optuna.Trial] = {}
        self._reported: dict[str, int] = {}
        """The last step reported of each open trial: a cohort may go back to an earlier one."""
        self.num_told = 0
        """Trials finished by this ledger: as long as it is equal, so are all results."""

    def finished(self) -> dict[str, FrozenTrial]:
        """COMPLETE and PRUNED trials by hierarchy, harvested ones too."""
        trials = self.study.get_trials(deepcopy=False, states=FINISHED)
        return {trial.user_attrs["hierarchy"]: trial for trial in trials}

    def trained(self) -> dict[str, FrozenTrial]:
        """The finished trials that were asked for, by hierarchy."""
        finished = self.finished()
        return {n: t for n, t in finished.items() if not t.user_attrs.get("harvested")}

    def open(self, name: str) -> None:
        """Store a RUNNING trial for a hierarchy."""
        hierarchy = parse_hierarchy(name)
        attributes: dict[str, Any] = {"hierarchy": name}
        if hierarchy in self._space.references:
            attributes["reference"] = True
        is_feasible = self._space.violation(hierarchy) is None
        if not is_feasible:
            attributes["feasible"] = False
        self.study.enqueue_trial(self._space.to_params(hierarchy), user_attrs=attributes)
        trial = self.study.ask(dict(self._space.distributions()))
        # so that Optuna's own `best_trial` is one that may be called the best
        trial.set_constraint(CONSTRAINT, 0.0 if is_feasible else 1.0)
        self._open[name] = trial
        self._reported.pop(name, None)

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """Store an intermediate value (step: epochs or stages, 1-based) of each open trial."""
        for name, value in values.items():
            if name in self._open and step > self._reported.get(name, 0):
                self._open[name].report(value, step)
                self._reported[name] = step

    def tell(self, cohort: Cohort, name: str, state: TrialState) -> None:
        """Close a trial as COMPLETE or PRUNED; one told before a search was cut off stays."""
        trial = self._open.pop(name, None)
        if trial is None:
            return
        self.num_told += 1
        for key, value in self._attributes(cohort, name).items():
            trial.set_user_attr(key, value)
        if state == TrialState.PRUNED:
            self.study.tell(trial, state=state)
        else:
            self.study.tell(trial, cohort.history[-1].output(name))

    def add_harvested(self, cohort: Cohort, name: str) -> None:
        """Store a network that was read off the trie without having been asked for."""
        self.num_told += 1
        self.study.add_trial(
            optuna.create_trial(
                value=cohort.history[-1].output(name),
                params=self._space.to_params(parse_hierarchy(name)),
                distributions=dict(self._space.distributions()),
                user_attrs={
                    "hierarchy": name,
                    "harvested": True,
                    **self._attributes(cohort, name),
                },
                constraints={CONSTRAINT: 0.0},
                intermediate_values={
                    rung.step: rung.ranked(name, self._by)
                    for rung in cohort.history
                    if name in rung.accuracies
                },
            )
        )

    def fail_unfinished(self) -> None:
        """Tell FAIL for every trial that nobody trains any more."""
        self._open.clear()
        while self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self.study.tell(self.study.ask(), state=TrialState.FAIL)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.tell(trial.number, state=TrialState.FAIL)

    def _attributes(self, cohort: Cohort, name: str) -> dict[str, Any]:
        rung = cohort.history[-1]
        plan = self._plan(parse_hierarchy(name))
        # a sequential trial that is pruned has no output layer yet
        reached = {"val_accuracy": rung.output(name)} if rung.has_output else {}
        return {
            **reached,
            "head_accuracies": cohort.head_accuracies(name),
            "num_parameters": plan.num_parameters,
            "flops": plan.flops,
            "num_local_losses": plan.num_local_losses,
            "shallow_scale": plan.shallow_scale,
            "time_s": cohort.time_s[name],
            "epochs_trained": cohort.epochs_trained(name),
            **self._costs(cohort, name),
        }
