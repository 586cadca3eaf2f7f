"""Layers and heads that torch compiles learn what they learn as they are, up to rounding."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from functorch.compile import make_boxed_func  # pyright: ignore[reportPrivateImportUsage]
from helpers import CPU, NETWORK, Batches, H, cohort, differing, disagreements, plan, plans, tensors
from helpers import trained as train
from torch._dynamo.backends.common import aot_autograd
from torch.utils.flop_counter import FlopCounterMode

from dsaccel.config.study import TrainingConfig
from dsaccel.errors import CompilerError
from dsaccel.losses.pred import PredPlan
from dsaccel.nn import compiled
from dsaccel.training.learner import Learner
from dsaccel.training.memory import estimate_plans
from dsaccel.training.meter import Machine

COMPILED = TrainingConfig(epochs=2, batch_size=16, learning_rate=1e-3, compile=True)
AS_IT_IS = COMPILED.model_copy(update={"compile": False})


@pytest.fixture(autouse=True)
def backend(monkeypatch):
    """Traced and taken apart as always, but run by torch's own kernels: those of Inductor take
    minutes to make.
    """
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    yield monkeypatch
    compiled._compiled.cache_clear()
    compiled._known.clear()
    torch._dynamo.reset()


# what is counted; and what a normalisation behind it takes out again, so that it only drifts
NOT_LEARNED = (".step", "num_batches_tracked", "weight.bias")


def assert_learned_the_same(start, plain, other):
    """What differs is little of the way that the network has gone."""
    names = [name for name in start if not name.endswith(NOT_LEARNED)]
    way = sum((plain[name] - start[name]).square().sum() for name in names)
    off = sum((plain[name] - other[name]).square().sum() for name in names)
    assert way > 0
    assert off < 0.02**2 * way


def counted(backend):
    """The graphs that are compiled from now on."""
    graphs = []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph.forward

    backend.setattr(compiled, "BACKEND", counting)
    return graphs


@pytest.mark.parametrize(
    ("family", "name", "settings"),
    [
        ("resnet18", "1-2-1", {}),
        ("resnet18", "1-2-1", {"granularity": "stage", "head": "tail", "loss": "pred"}),
        ("resnet18", "1-1-2", {"granularity": ("none", "none", "stage", "none")}),
        ("resnet50", "1-1-1", {"granularity": "block", "loss": "transport"}),
        ("resnet18", "1-1-1", {"granularity": "block", "loss": "reconstruct"}),
        ("vgg", "1-2-1", {"head": "mlp"}),
    ],
)
def test_compiled_units_learn_what_they_learn_as_they_are(family, name, settings):
    network = NETWORK.model_copy(update=settings)
    networks = plans(name, family=family, network=network)
    start = tensors(cohort(networks, AS_IT_IS), H(name))
    plain, other = (tensors(train(networks, t), H(name)) for t in (AS_IT_IS, COMPILED))
    assert_learned_the_same(start, plain, other)
    assert len(compiled._known) > 0


def test_a_shape_is_compiled_once_and_without_a_gap(backend):
    graphs = counted(backend)
    networks = plans("2-3-2", "1-2-3")
    train(networks, COMPILED)
    layers = [
        (layer, compiled._shape(layer))  # pyright: ignore[reportArgumentType]
        for segment in (s for p in networks.values() for s in p.segments)
        for unit in Learner(segment, COMPILED, seed=1, device=CPU).units
        for layer in unit.layers
    ]
    shapes = {shape for _, shape in layers}
    blocks = [b for p in networks.values() for s in p.segments for b in s.blocks]
    heads = {layer.head for block in blocks for layer in block.layers}
    assert len(shapes) < len(layers) / 2
    assert len(graphs) == len(shapes) + len(heads) + 1  # the output layer


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_trie_of_compiled_units_trains_each_network_as_if_alone(precision):
    networks = plans("1-1-2", "1-2-1", "2-1-1")
    training = COMPILED.model_copy(update={"precision": precision})
    assert not disagreements(train(networks, training), networks)


def test_recomputing_compiled_layers_changes_no_bit():
    network = NETWORK.model_copy(update={"granularity": "stage"})
    once, again = (
        train(plans("2-1-2", network=network), COMPILED.model_copy(update={"recompute": recompute}))
        for recompute in (False, True)
    )
    assert not differing(tensors(once, H("2-1-2")), tensors(again, H("2-1-2")))


def test_what_is_only_read_runs_as_it_is():
    trained = train(plans("1-1-1"), COMPILED)
    path = trained.trie.path(H("1-1-1"))
    x = Batches().x
    plain = x
    for node in path:
        learner = trained.learners[node]
        own = Learner(node.segment, AS_IT_IS, seed=1, device=CPU)
        own.load_state_dict(learner.state_dict())
        learner.start_evaluation()
        own.start_evaluation()
        x, logits = learner.evaluate(x)
        plain, expected = own.evaluate(plain)
        assert all(torch.equal(a, b) for a, b in zip(logits, expected, strict=True))


def test_a_compiled_unit_is_freed_with_its_learner():
    learner = Learner(plan("1-1-1").segments[0], COMPILED, seed=1, device=CPU)
    learner.start_epoch(1)
    learner.step(*next(Batches().train_batches(1)))
    unit = weakref.ref(learner.units[0])
    gc.disable()
    try:
        del learner
        assert unit() is None
    finally:
        gc.enable()


def test_a_compiler_that_fails_is_told_in_one_line(backend):
    def failing(graph, inputs):
        raise RuntimeError("no C++ compiler was found\nwith details")

    backend.setattr(compiled, "BACKEND", failing)
    with pytest.raises(CompilerError) as caught:
        train(plans("1-1-1"), COMPILED)
    assert str(caught.value) == (
        "training.compile must be false where torch.compile fails, but here it said: "
        "RuntimeError: no C++ compiler was found"
    )


def test_a_backward_pass_that_cannot_be_compiled_is_no_networks_fault_either(backend):
    def failing(graph, inputs):
        raise RuntimeError("no kernel for this gradient")

    def forward(graph, inputs):
        return make_boxed_func(graph.forward)

    half = aot_autograd(fw_compiler=forward, bw_compiler=failing)
    backend.setattr(compiled, "BACKEND", half)
    with pytest.raises(CompilerError, match="no kernel for this gradient"):
        train(plans("1-1-1"), COMPILED)


def test_a_lack_of_memory_stays_one(backend):
    def failing(graph, inputs):
        raise MemoryError

    backend.setattr(compiled, "BACKEND", failing)
    with pytest.raises(MemoryError):
        train(plans("1-1-1"), COMPILED)


@pytest.mark.slow
def test_inductors_kernels_learn_the_same_in_a_trie_and_alone(backend):
    backend.setattr(compiled, "BACKEND", "inductor")
    networks = plans("1-1-2", "1-2-1")
    together = train(networks, COMPILED)
    assert not disagreements(together, networks)
    start = tensors(cohort(networks, AS_IT_IS), H("1-2-1"))
    plain = tensors(train(networks, AS_IT_IS), H("1-2-1"))
    assert_learned_the_same(start, plain, tensors(together, H("1-2-1")))


def test_counting_what_compiled_layers_do_leaves_them_compiled(backend):
    graphs = counted(backend)
    learner = Learner(plan("1-1-1").segments[0], COMPILED, seed=1, device=CPU)
    learner.start_epoch(1)
    x, y = next(Batches().train_batches(1))
    with FlopCounterMode(display=False):
        learner.step(x, y)
    assert not graphs
    learner.step(x, y)
    assert graphs


def test_the_estimate_of_memory_compiles_nothing(backend):
    def failing(graph, inputs):
        raise AssertionError

    backend.setattr(compiled, "BACKEND", failing)
    networks = plans("1-1-2")
    estimates = [
        estimate_plans(networks, t, num_images=48, machine=Machine.of(CPU)).total_bytes
        for t in (COMPILED, AS_IT_IS)
    ]
    assert estimates[0] == estimates[1]


def test_a_part_that_cannot_be_traced_is_told_in_one_line():
    class Odd(PredPlan):
        def gradients(self, h, logits, labels, layers, **read):
            print(h.sum().item())
            return super().gradients(h, logits, labels, layers, **read)

    segment = plan("1-1-1", network=NETWORK.model_copy(update={"loss": "pred"})).segments[0]
    learner = Learner(segment, COMPILED, seed=1, device=CPU)
    learner.start_epoch(1)
    head = learner.units[0].head
    head.spec = replace(head.spec, loss=Odd())  # pyright: ignore
    with pytest.raises(CompilerError, match=r"^training.compile must be false .*Unsupported: .*$"):
        learner.step(*next(Batches().train_batches(1)))
