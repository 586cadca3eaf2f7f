"""Optuna's Gaussian process."""

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler

from dsaccel.search.strategies.sampled import Sampled
from dsaccel.search.suggestions import NUM_STARTUP


class Gp(Sampled):
    """The hierarchies from which a Gaussian process expects most."""

    one_by_one = True
    weighs_costs = False

    def sampler(self, seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            # one seed, one hierarchy: one value, bit for bit
            return GPSampler(seed=seed, deterministic_objective=True, n_startup_trials=NUM_STARTUP)
