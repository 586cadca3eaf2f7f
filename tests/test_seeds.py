import itertools

import pytest

from dsaccel.seeds import derive


@pytest.mark.parametrize(
    ("names", "value"),
    [(("init", 1, 2, 3, "conv"), 234068673992440161), (("order", 1), 1354449367849760973)],
)
def test_a_derived_seed_stays_the_same_for_ever(names, value):
    # a change here would change every result that was ever reported
    assert derive(1, *names) == value


def test_derived_seeds_have_63_bits():
    seeds = [derive(seed, "order", epoch) for seed in range(20) for epoch in range(100)]
    assert len(set(seeds)) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62  # and use all of them
    assert {seed % 2 for seed in seeds} == {0, 1}


def test_names_do_not_collide():
    names: list[tuple[str | int, ...]] = [
        ("a", "b"),
        ("ab",),
        ("b", "a"),
        ("a", "b", ""),
        ("a, b",),
        ("a', 'b",),
        (1,),
        ("1",),
        (1, 1),
        (11,),
        (1, "1"),
        ("1", 1),
        (),
        ("",),
    ]
    assert len({derive(7, *name) for name in names}) == len(names)


def test_every_position_has_random_numbers_of_its_own():
    positions = itertools.product(range(5), range(1, 9), range(1, 4), range(1, 11))
    seeds = [derive(1, "dropout", *position) for position in positions]
    assert len(set(seeds)) == len(seeds)


def test_the_base_seed_matters():
    assert len({derive(seed, "augment", 1) for seed in (0, 1, 2, 10**12)}) == 4
