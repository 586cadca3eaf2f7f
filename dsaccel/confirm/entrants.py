"""Train the entries of a confirmation: data, cohorts and settings for a seed and a mode."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from dsaccel.config.study import StudyConfig, TrainingConfig
from dsaccel.confirm.result import Entry
from dsaccel.data.batches import Data
from dsaccel.data.load import look_at_test
from dsaccel.families import Mode
from dsaccel.files import atomic_write
from dsaccel.nn.sealed import read_state, write_state
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.trie import Trie
from dsaccel.training.cohort import Cohort
from dsaccel.training.memory_limit import MemoryLimit
from dsaccel.training.workbench import Bench, read_data


class GlobalSettings(NamedTuple):
    """The settings in which global back-propagation differs from the study."""

    learning_rate: float
    dropout: float


class Entrants:
    """A study's settings, made into cohorts for any seed."""

    def __init__(self, bench: Bench[StudyConfig]) -> None:
        """
        Args:
            bench: with the data of the search's seed.

        Raises:
            ConfigError: if the test images cannot be used.
        """
        self.bench, self.config = bench, bench.config
        self.device, self.runtime = bench.device, bench.config.runtime
        look_at_test(bench.data)
        self._planner, self._source = bench.planner, bench.data.source
        self._data: Data | None = bench.data
        self.fingerprint = bench.data.fingerprint
        self.num_val = bench.data.num_val
        self.has_test = bench.data.has_test
        self.val_is_given = bench.data.val_is_given

    def load_data(self, seed: int) -> Data:
        """The images with the split, order and augmentation of a seed; the last are kept."""
        if self._data is None or self._data.seed != seed:
            self._data = None  # not two data sets at once on the device
            self._data = read_data(self.config, self.device, seed=seed, source=self._source)
        return self._data

    def cohort(
        self,
        entries: Sequence[Entry],
        mode: Mode,
        data: Data,
        own: GlobalSettings,
        memory: MemoryLimit | None = None,
    ) -> Cohort:
        """Networks with the same training settings, untrained; `data` brings the seed."""
        plans, training = self._plans(entries, mode, own), self.training(entries[0], mode, own)
        make = Cohort if memory is None else memory.cohort
        return make(plans, training, data, seed=data.seed, device=self.device)

    def memory_limit(
        self, entries: Sequence[Entry], mode: Mode, data: Data, own: GlobalSettings
    ) -> MemoryLimit:
        """The memory limit of networks with the same training settings.

        Raises:
            NoMemoryError: if one of them needs more on its own.
        """
        memory = MemoryLimit(self.config.runtime.memory_mib, self.device, data.num_train)
        memory.check(self._plans(entries, mode, own), self.training(entries[0], mode, own))
        return memory

    def parts(
        self, entries: Sequence[Entry], mode: Mode, own: GlobalSettings, memory: MemoryLimit
    ) -> list[tuple[Entry, ...]]:
        """Networks with the same training settings in groups that can be trained together."""
        if not entries:
            return []
        plans, training = self._plans(entries, mode, own), self.training(entries[0], mode, own)
        by_key = {entry.key: entry for entry in entries}
        return [tuple(by_key[h] for h in part) for part in memory.parts(plans, training)]

    def training(self, entry: Entry, mode: Mode, own: GlobalSettings) -> TrainingConfig:
        """The settings that an entry is trained with."""
        training = self.settings(entry).training
        if mode == "local":
            return training
        # with one unit the schedules are the same, and this one shows each epoch
        return training.model_copy(
            update={"schedule": "simultaneous", "learning_rate": own.learning_rate}
        )

    def flops(self, entries: Sequence[Entry], mode: Mode, own: GlobalSettings) -> float:
        """Forward FLOPs of an image through networks, what they share counted once, in all epochs;
        no setting of back-propagation changes them.
        """
        trie = Trie(self._plans(entries, mode, own))
        epochs = self.training(entries[0], mode, own).epochs
        return float(epochs * sum(node.segment.flops for node in trie.nodes()))

    def settings(self, entry: Entry) -> StudyConfig:
        """The study's settings with the entry's own."""
        config = self.config
        for key, value in entry.settings.items():
            section, name = key.split(".")
            changed = getattr(config, section).model_copy(update={name: value})
            config = config.model_copy(update={section: changed})
        return config

    def plan_at(self, hierarchy: str, width: float) -> Plan:
        """A hierarchy at a width, cut as in the search."""
        network = self.config.network.model_copy(update={"width": width})
        return replace(self._planner, network=network)(_without(hierarchy, "width"))

    def _plans(
        self, entries: Sequence[Entry], mode: Mode, own: GlobalSettings
    ) -> dict[Hierarchy, Plan]:
        return {entry.key: self._plan(entry, mode, own) for entry in entries}

    def _plan(self, entry: Entry, mode: Mode, own: GlobalSettings) -> Plan:
        network = self.settings(entry).network
        replaced = [key.split(".")[1] for key in entry.settings]
        if mode == "global":
            network = network.model_copy(update={"dropout": own.dropout})
            replaced += ["learning_rate", "dropout"]
        return replace(self._planner, network=network)(_without(entry.hierarchy, *replaced), mode)


def _without(name: str, *settings: str) -> Hierarchy:
    """A hierarchy without some of the settings that it brings along: others take their place."""
    hierarchy = Hierarchy.parse(name)
    kept = {n: value for n, value in hierarchy.settings if n not in settings}
    return hierarchy.with_settings(kept)


def save_networks(path: Path, cohort: Cohort) -> None:
    """Write a cohort's weights, what is shared once; whole or not at all."""
    units = {
        node.number: [unit.state_dict() for unit in cohort.learners[node].units]
        for node in cohort.trie.nodes()
    }
    with atomic_write(path) as temporary:
        write_state(temporary, units)


def load_networks(path: Path, cohort: Cohort) -> None:
    """Put saved weights into a cohort of the same networks in the same order."""
    saved = read_state(path)
    for node in cohort.trie.nodes():
        for unit, state in zip(cohort.learners[node].units, saved[node.number], strict=True):
            unit.load_state_dict(state)
