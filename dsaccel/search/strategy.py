"""Which strategy searches, in cohorts of what size: what a study leaves open is chosen here."""

from dsaccel.config.study import BudgetConfig
from dsaccel.errors import ConfigError
from dsaccel.parts import load_class
from dsaccel.space.space import SearchSpace


def resolve_budget(budget: BudgetConfig, space: SearchSpace) -> BudgetConfig:
    """Choose strategy and cohort size where they are left to be chosen."""
    strategy, cohort_size = budget.strategy, budget.cohort_size
    quarter = _quarter(budget)
    if strategy is None:
        learning = "tpe" if budget.against is None else "nsga2"
        if (cohort_size or 1) > quarter:
            learning = "random"
        strategy = "exhaustive" if _fits(budget, space) else learning
    if cohort_size is None:
        part = load_class("strategy", strategy)
        cohort_size = 1 if part.one_by_one else budget.n_trials if part.takes_all else quarter
    return budget.model_copy(update={"strategy": strategy, "cohort_size": cohort_size})


def check_strategy(budget: BudgetConfig, space: SearchSpace) -> None:
    """Refuse a new study whose strategy is named and cannot do what its name says.

    Raises:
        ConfigError: too few trials for all, too large a cohort, or costs that it cannot weigh.
    """
    if budget.strategy is None:
        return
    part = load_class("strategy", budget.strategy)
    if part.takes_all and not _fits(budget, space):
        feasible = space.feasible()
        every = "every hierarchy of a space too large to list"
        way_out = "narrow the space"
        if feasible is not None:
            needed = len(space.distinct([*feasible, *space.references]))
            every = f"all {needed} hierarchies (those of the space, and references)"
            way_out = f"set --n-trials {needed}, narrow the space"
        raise ConfigError(
            f"strategy {budget.strategy} trains {every}, but got n_trials = {budget.n_trials}; "
            f"{way_out}, or choose another --strategy"
        )
    if part.decides and (budget.cohort_size or budget.n_trials) < budget.n_trials:
        raise ConfigError(
            f"strategy {budget.strategy} compares all hierarchies with each other, so cohort_size "
            f"must be n_trials = {budget.n_trials}, but got {budget.cohort_size}; leave it out"
        )
    if budget.against is not None and not part.weighs_costs:
        raise ConfigError(
            f"strategy {budget.strategy} looks for accuracy alone, but got --against "
            f"{','.join(budget.against)}; choose --strategy nsga2"
        )
    quarter = _quarter(budget)
    if part.learns and (budget.cohort_size or 1) > quarter:
        raise ConfigError(
            f"cohort_size must be at most {quarter}, a quarter of n_trials = "
            f"{budget.n_trials}, for strategy {budget.strategy}, which learns from one cohort "
            f"for the next and would be random search otherwise, but got {budget.cohort_size}; "
            "leave it out, or choose --strategy random"
        )


def _fits(budget: BudgetConfig, space: SearchSpace) -> bool:
    """Whether the budget is enough for the whole space and the references."""
    feasible = space.feasible()
    if feasible is None:
        return False
    return len(space.distinct([*feasible, *space.references])) <= budget.n_trials


def _quarter(budget: BudgetConfig) -> int:
    """The largest cohort that lets a strategy learn from four of them; at least one."""
    return max(1, budget.n_trials // 4)
