"""Where a network is read: at its output layer, its last head, or the last half of its heads."""

import math

import pytest
import torch
from helpers import NETWORK, TRAINING, Batches, H, cohort, differing, plan, plans, tensors, trained

from dsaccel.nn.network import Network
from dsaccel.nn.units import build_units
from dsaccel.nn.weights import ImageFacts
from dsaccel.spec.blocks import Output
from dsaccel.training.descent import right_images

EXITS = ("layer", "head", "ensemble")
CUTS = ("conv", "none,none,stage,none", "stage,stage,none,none", "none")


def read_at(exit, granularity="block", **changes):
    words = tuple(granularity.split(",")) if "," in granularity else granularity
    return NETWORK.model_copy(update={"output": exit, "granularity": words, **changes})


def by_hand(made, name):
    """The accuracy of each exit, from the logits of all heads of all validation images."""
    logits, labels = [], []
    for x, y in made.data.val_batches():
        heads = []
        for node in made.trie.path(name):
            x, of_node = made.learners[node].evaluate(x)
            own = [len(unit.layers) > 0 for unit in made.learners[node].units]
            heads += zip(of_node, own, strict=True)
        logits.append(heads)
        labels.append(y)
    y = torch.cat(labels)
    whole = [torch.cat([batch[i][0] for batch in logits]) for i in range(len(logits[0]))]
    own = [out for out, (_, is_own) in zip(whole, logits[0], strict=True) if is_own]
    half = own[len(own) - math.ceil(len(own) / 2) :]
    exits = {"head": own[-1], "ensemble": sum(out.softmax(1) for out in half)}
    if made.trie.path(name)[-1].segment.output is not None:
        exits["layer"] = whole[-1]
    return {exit: (out.argmax(1) == y).float().mean().item() for exit, out in exits.items()}


@pytest.mark.parametrize("schedule", ["simultaneous", "sequential"])
@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("exit", EXITS)
def test_every_exit_is_read_in_one_descent(exit, cuts, schedule):
    training = TRAINING.model_copy(update={"schedule": schedule, "epochs": 2})
    networks = plans("1-1-2", "1-2-1", network=read_at(exit, cuts))
    made = trained(networks, training)
    for name, network in networks.items():
        read = made.history[-1].read[name]
        assert read.exits == pytest.approx(by_hand(made, name))
        assert read.objective == read.exits[exit]
        right = right_images(made.trie, made.learners, made.data.val_batches())[name]
        assert int(right.sum()) / len(right) == read.objective
        # an output layer that trains nothing below it is there only if it is read
        assert ("layer" in read.exits) == (exit == "layer" or cuts.endswith("none"))
        assert len(read.heads) == sum(segment.num_units for segment in network.segments)
        if cuts == "none":
            assert set(read.exits.values()) == {read.objective}


@pytest.mark.parametrize("exit", ["head", "ensemble"])
def test_where_a_network_is_read_changes_nothing_of_what_is_trained(exit):
    layer, other = (trained(plans("1-2-1", network=read_at(e))) for e in ("layer", exit))
    name = H("1-2-1")
    ours, theirs = tensors(other, name), tensors(layer, name)
    last = f"{len(layer.trie.path(name)) - 1}."
    kept = {key: value for key, value in theirs.items() if not key.startswith(last)}
    assert len(kept) < len(theirs)
    assert not differing(ours, kept)
    for exit in ("head", "ensemble"):
        a, b = (made.history[-1].read[name].exits[exit] for made in (layer, other))
        assert a == b


@pytest.mark.parametrize("exit", ["head", "ensemble"])
def test_networks_that_end_at_their_last_block_train_together_as_if_alone(exit):
    network = read_at(exit)
    networks = plans("1-1-1", "1-1-2", "1-2-1", network=network)
    harvest = plans("1-1-1", "1-2-1", "1-1-3", network=network)
    together = trained(networks, harvest={**harvest, **plans("1-1-2", network=network)})
    assert together.harvested == []
    other = trained(plans("1-1-3", network=network), harvest=harvest)
    assert other.harvested == [H("1-1-1")]
    for made, names in ((together, networks), (other, (H("1-1-1"), H("1-1-3")))):
        for name in names:
            alone = trained(plans(name, network=network))
            assert not differing(tensors(made, name), tensors(alone, name))
            assert made.history[-1].read[name] == alone.history[-1].read[name]
    # no output layer anywhere
    assert all(node.segment.output is None for node in together.trie.nodes())
    assert len(list(together.trie.nodes())) == 7


def test_a_harvested_network_without_an_output_layer_goes_with_its_last_block():
    network = read_at("head")
    made = cohort(plans("1-1-2", "1-2-1", network=network), harvest=plans("1-1-1", network=network))
    assert made.harvested == [H("1-1-1")]
    rungs = made.rungs()
    next(rungs)
    made.retire({H("1-1-2")})
    # its last block would be trained for nobody who asked
    assert made.trie.living == [H("1-2-1")]
    next(rungs)
    assert set(made.learners) == set(made.trie.path(H("1-2-1")))


def test_what_the_exit_reads_counts_as_the_network_s():
    for exit, cuts in ((e, c) for e in EXITS for c in CUTS):
        network = plan("1-2-1", network=read_at(exit, cuts, head="conv"), side=16)
        units = [unit for segment in network.segments for unit in build_units(segment, seed=1)]
        own = [unit for unit in units if len(unit.layers)]
        num = {"layer": 1, "head": 1, "ensemble": math.ceil(len(own) / 2)}[exit]
        body = sum(p.numel() for unit in units for p in unit.layers.parameters())
        ends = (own if exit != "layer" else units)[-num:]
        heads = 0
        for unit in ends:
            layers = ["classifier"] + ["conv"] * hasattr(unit.head, "conv")
            heads += sum(p.numel() for n in layers for p in getattr(unit.head, n).parameters())
        assert network.num_parameters == body + heads, (exit, cuts)
        assert len(network.exit_heads) == num
        assert network.num_parameters_training == sum(
            p.numel() for unit in units for p in unit.parameters()
        )
        flops = sum(block.flops for block in network.blocks)
        assert network.flops == flops + sum(head.flops for head in network.exit_heads)


@pytest.mark.parametrize("exit", EXITS)
def test_an_exported_network_answers_at_its_exit(exit):
    network = plan("1-1-2", network=read_at(exit, dropout=0.0))
    made = trained({network.hierarchy: network})
    units = [unit for node in made.trie.path(H("1-1-2")) for unit in made.learners[node].units]
    facts = ImageFacts((0.0,) * 3, (1.0,) * 3, tuple("abcd"), fingerprint="")
    module = Network(units, facts, network).eval()
    x, y = Batches().x, Batches().y
    with torch.no_grad():
        right = (module(x.contiguous(memory_format=torch.channels_last)).argmax(1) == y).sum()
    assert right.item() / len(y) == pytest.approx(made.history[-1].objective(H("1-1-2")))
    if exit == "ensemble":
        assert not any(isinstance(head, Output) for head in network.exit_heads)
        torch.testing.assert_close(module(x).exp().sum(1), torch.ones(len(x)))
