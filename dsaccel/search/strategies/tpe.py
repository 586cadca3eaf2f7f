"""Optuna's tree-structured Parzen estimator."""

from optuna.samplers import BaseSampler, TPESampler

from dsaccel.search.strategies.sampled import Sampled


class Tpe(Sampled):
    """Hierarchies like the better ones so far."""

    weighs_costs = False

    def sampler(self, seed: int) -> BaseSampler:
        # constant_liar: what runs counts as bad, which spreads a cohort
        return TPESampler(seed=seed, constant_liar=True)
