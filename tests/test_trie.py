from itertools import product

import pytest
from helpers import NETWORK, H, plan, plans

from dsaccel.config.study import NetworkConfig
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.trie import Trie


def space(low, high, stages=4):
    return plans(*map(Hierarchy, product(range(low, high + 1), repeat=stages)), side=32)


@pytest.mark.parametrize(("high", "trained", "separate"), [(2, 31, 112), (4, 341, 2816)])
def test_a_full_space_trains_each_prefix_once(high, trained, separate):
    # research: 4 stages of 1..4 are 341 blocks in place of 2,816; of 1..2 they are 31 of 112
    trie = Trie(space(1, high))
    assert (trie.blocks_trained, trie.blocks_separate) == (trained, separate)


def test_the_papers_hierarchies_share_30_of_56_blocks():
    names = ("2-2-2-2", "3-3-3-3", "1-1-1-1", "2-2-1-1", "2-1-1-1", "1-1-2-2", "1-1-2-4")
    trie = Trie(plans(*names, side=32))
    assert (trie.blocks_trained, trie.blocks_separate) == (30, 56)


def test_nodes_merge_only_where_everything_before_is_equal_too():
    trie = Trie(plans("1-2-1", "2-1-1"))
    a, b = trie.path(H("1-2-1")), trie.path(H("2-1-1"))
    assert [x is y for x, y in zip(a, b, strict=True)] == [True, True] + [False] * 4
    # the last blocks have equal specs and unequal predecessors
    assert a[-2].segment == b[-2].segment


def test_a_spec_that_differs_is_not_shared():
    narrow = plan("1-1-1")
    networks = {
        H("1-1-1"): narrow,
        H("1-1-1 dropout=0.5"): plan("1-1-1", network=NETWORK.model_copy(update={"dropout": 0.5})),
        H("1-1-1 loss=pred"): plan("1-1-1", network=NETWORK.model_copy(update={"loss": "pred"})),
        H("1-1-1 width=0.125"): plan("1-1-1", network=NetworkConfig(width=1 / 8, dropout=0.2)),
        H("1-1-1 learning_rate=0.5"): plan("1-1-1", mode="global"),
    }
    assert len(Trie(networks).roots) == len(networks)


def test_a_stage_is_one_node_under_stage_granularity_and_the_network_under_global():
    by_stage = NETWORK.model_copy(update={"granularity": "stage"})
    trie = Trie(plans("2-2-2", "2-2-3", network=by_stage))
    assert [len(node.segment.blocks) for node in trie.path(H("2-2-3"))] == [3, 2, 3, 0]
    # the last stages differ in length, so that nothing of them is shared
    assert trie.blocks_trained == 5 + 2 + 3
    whole = Trie({H("2-2-2"): plan("2-2-2", mode="global")})
    assert [len(node.segment.blocks) for node in whole.nodes()] == [7]


def test_retiring_keeps_what_others_need_and_drops_the_rest():
    trie = Trie(plans("1-1-1", "1-1-2", "2-1-1"))
    assert trie.add_harvest(H("1-2-1"), plan("1-2-1")) is False
    num_nodes = len(list(trie.nodes()))
    trie.retire({H("2-1-1")})
    assert trie.asked == [H("1-1-1"), H("1-1-2")]
    assert len(list(trie.nodes())) == num_nodes - 4  # s1.2, s2.1, s3.1 and an output
    trie.retire({H("1-1-2")})
    assert [len(n.segment.blocks) for n in trie.nodes()] == [1, 1, 1, 1, 0]
    trie.retire({H("1-1-1")})
    assert list(trie.nodes()) == []


def test_a_harvested_end_lives_as_long_as_the_node_it_ends_on():
    trie = Trie(plans("1-1-3", "1-2-1"))
    assert trie.add_harvest(H("1-1-2"), plan("1-1-2"))
    assert not trie.add_harvest(H("1-1-2"), plan("1-1-2"))
    trie.retire({H("1-2-1")})
    assert trie.living == [H("1-1-3"), H("1-1-2")]
    assert trie.asked == [H("1-1-3")]
    trie.retire({H("1-1-3")})
    assert trie.living == []


def test_two_names_of_one_network_live_and_retire_each_for_itself():
    # a stage of one block ends with that block
    names = (H("1-1-1 granularity=conv,block,block"), H("1-1-1 granularity=conv,block,stage"))
    trie = Trie(plans(*names, "1-1-2"))
    assert trie.path(names[0]) == trie.path(names[1])
    assert trie.add_harvest(H("1-1-1"), plan(names[1]))
    assert trie.asked == [*names, H("1-1-2")]
    trie.retire({names[0]})
    assert trie.asked == [names[1], H("1-1-2")]
    assert trie.living == [names[1], H("1-1-2"), H("1-1-1")]
    trie.retire({names[1]})
    assert trie.living == [H("1-1-2")]


def test_harvest_needs_an_end_that_is_only_an_output_layer():
    # a VGG ends in a fully connected unit, which would have to be trained
    trie = Trie(plans("1-1-2", family="vgg"))
    assert not trie.add_harvest(H("1-1-1"), plan("1-1-1", family="vgg"))


def test_a_node_counts_to_the_stage_in_which_it_ends():
    assert [node.stage for node in Trie(plans("1-2-1")).path(H("1-2-1"))] == [1, 1, 2, 2, 3, 3]
    vgg = Trie(plans("1-1-1", family="vgg"))
    # the fully connected unit and the output layer count to the last stage
    assert [node.stage for node in vgg.path(H("1-1-1"))] == [1, 2, 3, 3, 3]
    assert vgg.num_stages == 3
    whole = Trie(plans("1-1-1", mode="global"))
    assert [node.stage for node in whole.nodes()] == [3]
