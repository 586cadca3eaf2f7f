"""Train a trie unit after unit, from the bottom up: Algorithm 1 of the paper.

A unit learns for all epochs on the features of the frozen units below it, on a learning-rate
schedule of its own, and is then frozen. Frozen units use running statistics, but still drop
channels for those above. Every unit sees the same epochs: order, augmentation and dropped channels
are named by position and epoch (a frozen unit's channels by batch too, so that any batch can be
computed on its own).

A *wave* trains the next unit of every living network at once, so that what they share below runs
once a batch. Networks wait for each other at the end of each stage: there is a rung. The yielded
rungs decide nothing.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from dsaccel.config.study import PruningConfig, TrainingConfig
from dsaccel.errors import ConfigError
from dsaccel.schedules import Asked, Schedule
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import BEGINNING, Epoch, Rung, Safe
from dsaccel.spec.trie import Node, Trie

if TYPE_CHECKING:
    from torch import Tensor

    from dsaccel.nn.labels import Labels
    from dsaccel.nn.units import Features
    from dsaccel.training.descent import Batches
    from dsaccel.training.feature_cache import FeatureCache, Key
    from dsaccel.training.learner import Learner


class Sequential(Schedule):
    """One unit after another, from the bottom up, each for all epochs."""

    step_name = "stage"
    all_at_once = False
    ranked_by = ("head",)
    looks_ahead: ClassVar[bool] = False

    feature_cache_mib: int
    feature_cache_host_mib: int

    def num_steps(self, num_stages: int) -> int:
        return num_stages

    def trained(self, node: Node, step: int) -> Fraction:
        return Fraction(self._num_trained(node, step), node.segment.num_units)

    def epochs_trained(self, nodes: Iterable[Node], step: int) -> int:
        return self.epochs * sum(self._num_trained(node, step) for node in nodes)

    def prefix(self, hierarchy: Hierarchy, step: int) -> Hashable:
        return hierarchy.beginning(step)

    def stops(
        self, pruning: PruningConfig, training: TrainingConfig, num_stages: int, asked: Asked
    ) -> tuple[int, ...]:
        """The end of each stage but the last, after which only the output layer is to train."""
        if pruning.by == "output":
            raise ConfigError(
                f"pruning.by must be head or ensemble with the {training.schedule} schedule, which "
                f"trains the output layer last, but got {pruning.by}; leave it out"
            )
        if pruning.grace_epochs is not None:
            raise ConfigError(
                f"pruning.grace_epochs must not be set with the {training.schedule} schedule, "
                f"which prunes after each stage, but got {pruning.grace_epochs}; leave it out"
            )
        return () if asked == "never" else tuple(range(1, num_stages))

    def rungs(
        self,
        trie: Trie,
        learners: "MutableMapping[Node, Learner]",
        data: "Batches",
        *,
        start: int,
        within: Safe,
    ) -> Iterator[Rung | Safe | Epoch]:
        from dsaccel.training.feature_cache import FeatureCache

        cache = FeatureCache(
            next(iter(learners.values())).device,
            device_bytes=self.feature_cache_mib * 2**20,
            host_bytes=self.feature_cache_host_mib * 2**20,
        )
        return sequential(
            trie,
            learners,
            data,
            self.epochs,
            cache=cache,
            start=start,
            within=within,
            looks_ahead=self.looks_ahead,
        )

    def _num_trained(self, node: Node, step: int) -> int:
        """Units of a node that have learned at a rung."""
        if node.stage <= step:
            return node.segment.num_units
        is_next = node.stage == step + 1 and (node.parent is None or node.parent.stage <= step)
        return int(self.looks_ahead and step > 0 and is_next)


def sequential(
    trie: Trie,
    learners: "MutableMapping[Node, Learner]",
    data: "Batches",
    epochs: int,
    *,
    cache: "FeatureCache",
    start: int = 0,
    within: Safe = BEGINNING,
    looks_ahead: bool = False,
) -> Iterator[Rung | Safe | Epoch]:
    """Every unit learns alone, from the bottom up; a rung after each stage, as long as a network
    lives.

    The stem belongs to the first stage, fully connected units and output layers to the last: its
    rung is the last one, and the only one with output layers. Where no network has a trained head
    yet (the first local loss lies deeper, or all is one segment) there is no rung.

    Arguments are those of `Schedule.rungs`, and an empty cache, whose size changes no result. If
    it `looks_ahead`, the rung of a stage comes after the first unit of the next one, whose head is
    then the deepest (`LookingAhead`); that changes no unit.
    """
    from dsaccel.training.descent import drop_retired, evaluate

    num_stages = trie.num_stages
    for stage in range(start + 1, num_stages + 1):
        drop_retired(trie, learners)
        if not learners:
            return
        while wave := set(_ready(trie.roots, learners, stage)):
            yield from _train_wave(wave, trie, learners, data, epochs, cache, within)
            yield (within := BEGINNING)
        if looks_ahead and stage < num_stages:
            wave = set(_ready(trie.roots, learners, stage + 1))
            yield from _train_wave(wave, trie, learners, data, epochs, cache, within)
            within = BEGINNING
        trained = {node: learners[node].num_frozen for node in trie.nodes()}
        if trained := {node: num for node, num in trained.items() if num}:
            yield Rung(stage, evaluate(trie, learners, data.val_batches(), trained))


def _train_wave(
    wave: set[Node],
    trie: Trie,
    learners: "MutableMapping[Node, Learner]",
    data: "Batches",
    epochs: int,
    cache: "FeatureCache",
    within: Safe,
) -> Iterator[Safe | Epoch]:
    """Train the next unit of each of these nodes, and freeze it."""
    from dsaccel.nn.labels import Labels

    open_nodes = _open(trie, learners)
    cache.retain(open_nodes)
    for epoch in range(within.epoch, epochs + 1):
        behind = within.behind(epoch)
        for node in wave:
            learners[node].start_epoch(epoch, goes_on=behind > 0)
        for batch, (x, y) in islice(enumerate(data.train_batches(epoch)), behind, None):
            ascent = _Ascent(learners, cache, wave, open_nodes, epoch, batch, Labels(y, x))
            ascent.start(trie.roots, x)
            yield Safe(epoch, batch + 1)
        yield Epoch(epoch, {node: (learners[node].num_frozen,) for node in wave})
    for node in wave:
        learners[node].freeze()


def _ready(nodes: list[Node], learners: "Mapping[Node, Learner]", stage: int) -> Iterator[Node]:
    """The nodes up to a stage that have units left to train, and none left below them."""
    for node in nodes:
        if learners[node].is_frozen:
            yield from _ready(node.children, learners, stage)
        elif node.stage <= stage:
            yield node


def _open(trie: Trie, learners: "Mapping[Node, Learner]") -> set[Node]:
    """The nodes with units left to train, and all below those."""
    nodes: set[Node] = set()
    for end in trie.nodes():
        node = None if learners[end].is_frozen else end
        while node is not None and node not in nodes:
            nodes.add(node)
            node = node.parent
    return nodes


@dataclass(frozen=True)
class _Ascent:
    """A batch on its way up the trie: frozen units pass it on, those of the wave learn from it.

    Features are kept in the cache where an untrained unit reads them, and as the nearest thing to
    start from where its own did not fit.
    """

    learners: "Mapping[Node, Learner]"
    cache: "FeatureCache"
    wave: set[Node]
    open_nodes: set[Node]
    epoch: int
    batch: int
    labels: "Labels"

    def start(self, roots: list[Node], x: "Tensor") -> None:
        from dsaccel.nn.units import Features

        for node in self._opened(roots):
            self._visit(node, 0, lambda: Features(x, None))

    def _visit(self, node: Node, unit: int, read: "Callable[[], Features]") -> bool:
        """Go on to a unit whose input is what `read` returns; returns if it is needed once more."""
        learner = self.learners[node]
        if unit < learner.num_frozen:
            return self._pass_on(node, unit, read)
        if node not in self.wave:
            return True
        learner.learn(read(), self.labels)
        return any(True for _ in self._above(node, unit))

    def _pass_on(self, node: Node, unit: int, read: "Callable[[], Features]") -> bool:
        """Like `_visit`, for a frozen unit."""
        from dsaccel.training.feature_cache import Key

        key = Key(node, unit, self.epoch, self.batch)
        output = _Output(self.learners[node], key, self.cache, read)
        above = [self._visit(*following, output.get) for following in self._above(node, unit)]
        if not any(above):
            self.cache.drop(key)
            return False
        if output.features is None:
            return key not in self.cache
        return not self.cache.put(key, output.features)

    def _above(self, node: Node, unit: int) -> Iterator[tuple[Node, int]]:
        """The units that read a unit's features and have training at or above them."""
        if unit + 1 < len(self.learners[node].units):
            yield node, unit + 1
        else:
            for child in self._opened(node.children):
                yield child, 0

    def _opened(self, nodes: Iterable[Node]) -> Iterator[Node]:
        return (node for node in nodes if node in self.open_nodes)


@dataclass
class _Output:
    """The output of a frozen unit, looked up or computed when somebody asks for it."""

    learner: "Learner"
    key: "Key"
    cache: "FeatureCache"
    read: "Callable[[], Features]"
    features: "Features | None" = None

    def get(self) -> "Features":
        found = self.features or self.cache.pop(self.key)
        if found is None:
            _, unit, epoch, batch = self.key
            found = self.learner.pass_on(unit, self.read(), epoch=epoch, batch=batch)
        self.features = found
        return found
