"""Optuna's genetic algorithm, which can weigh costs against accuracy."""

from optuna.samplers import BaseSampler, NSGAIISampler

from dsaccel.search.strategies.sampled import Sampled
from dsaccel.search.suggestions import NUM_STARTUP


class Nsga2(Sampled):
    """Children of the better hierarchies so far."""

    def sampler(self, seed: int) -> BaseSampler:
        return NSGAIISampler(seed=seed, population_size=NUM_STARTUP)
