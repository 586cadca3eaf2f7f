import itertools
import math
import subprocess
import sys
from pathlib import Path

import pytest

from dsaccel.config.own_settings import with_own_settings
from dsaccel.config.study import SpaceConfig, StudyConfig
from dsaccel.config.toml import parse_config, read_toml
from dsaccel.errors import ConfigError
from dsaccel.space.bounds import Measures
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy

ROOT = Path(__file__).parent.parent
SPACES = sorted((ROOT / "search_spaces").glob("*.toml"))
STUDIES = sorted((ROOT / "studies").glob("*.toml"))


def measure(hierarchy):
    """A stand-in for a plan: stage s costs 10^s parameters a block."""
    num_parameters = sum(n * 10**stage for stage, n in enumerate(hierarchy.blocks))
    return Measures(num_parameters, 2 * num_parameters, hierarchy.blocks[0] / 10)


def make_space(bounds=((1, 4),) * 4, references=(), measure=measure, **settings):
    config = SpaceConfig(family="resnet18", num_blocks=bounds, **settings)
    return SearchSpace(config, measure, [*map(Hierarchy, references)])


RULES = {
    "accelerated": lambda shallow, deep: all(s <= d for s in shallow for d in deep),
    "strict": lambda shallow, deep: all(s < d for s in shallow for d in deep),
    "total": lambda shallow, deep: sum(deep) - sum(shallow) >= 0,
    "none": lambda shallow, deep: True,
}


@pytest.mark.parametrize(
    ("num_stages", "most", "constraint", "size"),
    [
        (4, 4, "none", 256),
        (4, 4, "total", 150),
        (4, 4, "accelerated", 70),
        (4, 4, "strict", 26),
        (4, 6, "total", 721),
        (4, 6, "accelerated", 301),
        (4, 6, "strict", 155),
        (5, 5, "none", 3125),
        (5, 5, "accelerated", 517),
        (5, 5, "strict", 192),
        (3, 4, "accelerated", 30),
    ],
)
def test_the_feasible_ones_are_those_of_a_brute_force_in_order(num_stages, most, constraint, size):
    space = make_space(((1, most),) * num_stages, constraint=constraint)
    half = num_stages // 2
    box = itertools.product(range(1, most + 1), repeat=num_stages)
    expected = [Hierarchy(h) for h in box if RULES[constraint](h[:half], h[half:])]
    assert space.feasible() == expected
    assert space.size == len(expected) == size


def test_shallow_stages_moves_the_border():
    assert (
        make_space(constraint="strict", shallow_stages=3).violation(Hierarchy((1, 1, 2, 2)))
        is not None
    )
    assert (
        make_space(constraint="strict", shallow_stages=1).violation(Hierarchy((1, 2, 2, 2))) is None
    )


@pytest.mark.parametrize(
    ("settings", "hierarchy", "reason"),
    [
        ({}, (1, 1, 2), "a hierarchy must have 4 stages, but got 1-1-2"),
        ({}, (1, 7, 7, 7), "num_blocks of stage 2 must be within 1..4, but got 1-7-7-7"),
        (
            {"min_total_blocks": 6, "max_total_blocks": 8},
            (1, 1, 1, 1),
            "total blocks must be within 6..8, but 1-1-1-1 has 4",
        ),
        ({"max_total_blocks": 8}, (2, 2, 2, 3), "total blocks must be at most 8, but"),
        ({}, (2, 1, 1, 2), "constraint accelerated: no shallow stage may have more blocks than"),
        (
            {"constraint": "strict"},
            (1, 1, 1, 2),
            "constraint strict: every shallow stage must have fewer",
        ),
        ({"constraint": "total"}, (2, 2, 1, 1), "constraint total: the deep stages must have at"),
        ({"min_parameters": 2000}, (1, 1, 1, 1), "num_parameters must be at least 2000, but"),
        ({"max_parameters": 2000}, (1, 1, 1, 2), "num_parameters must be at most 2000, but"),
        ({"min_flops": 4000}, (1, 1, 1, 1), "flops must be at least 4000, but"),
        ({"max_flops": 2222}, (1, 1, 1, 2), "flops must be at most 2222, but 1-1-1-2 has 4222"),
        ({"max_shallow_scale": 0.1}, (2, 2, 2, 2), "shallow_scale must be at most 0.1, but"),
    ],
)
def test_a_violation_says_what_was_expected_and_found(settings, hierarchy, reason):
    violation = make_space(**settings).violation(Hierarchy(hierarchy))
    assert violation is not None
    assert reason in violation


def test_nothing_is_measured_without_a_measured_bound():
    def measure(hierarchy):
        raise AssertionError("measured")

    space = make_space(measure=measure)
    assert space.size == 70
    with_reference = make_space(measure=measure, references=[(9, 9, 9, 9)])
    assert with_reference.violation(Hierarchy((1, 1, 1, 1))) is None


def test_only_what_passes_the_cheap_checks_is_measured_and_once():
    """Of those only the ones near a measured bound."""
    measured = []

    def count(hierarchy):
        measured.append(hierarchy)
        return measure(hierarchy)

    space = make_space(measure=count, max_parameters=3000, max_shallow_scale=0.9)
    space.feasible()
    assert [space.violation(h) for h in space.feasible() or []] == [None] * (space.size or 0)
    assert len(measured) == len(set(measured)) < 70
    assert set(measured) <= set(make_space().feasible() or [])
    measured.clear()
    assert make_space(measure=count, max_parameters=5000).size == 70
    assert len(measured) <= 2 * 4


def test_references_widen_the_parameters_and_not_the_space():
    space = make_space(((1, 4), (1, 4), (3, 8)), references=[(9, 1, 1), (1, 5, 5)])
    ranges = [(name, d.low, d.high) for name, d in space.distributions().items()]  # type: ignore
    assert ranges == [("num_blocks_s1", 1, 9), ("num_blocks_s2", 1, 5), ("num_blocks_s3", 1, 8)]
    assert space.feasible() == make_space(((1, 4), (1, 4), (3, 8))).feasible()
    assert space.violation(Hierarchy((9, 1, 1))) is not None


def test_parameters_and_hierarchies_convert_into_each_other():
    space = make_space(((1, 9),) * 11, constraint="none")
    hierarchy = Hierarchy((1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2))
    params = space.to_params(hierarchy)
    assert list(params) == list(space.distributions())
    shuffled = dict(reversed(params.items()))
    assert space.from_params({"learning_rate": 1e-3, **shuffled}) == hierarchy


def test_a_space_too_large_to_list_says_so_and_still_judges():
    space = make_space(((1, 20),) * 6)
    assert space.size is None
    assert space.feasible() is None
    assert space.violation(Hierarchy((1, 1, 1, 2, 2, 2))) is None
    assert space.violation(Hierarchy((3, 1, 1, 2, 2, 2))) is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shallow_stages": 4}, r"shallow_stages must be within 1\.\.3 for 4 stages, but got 4"),
        (
            {"references": [(2, 2, 2)]},
            r"a reference must have 4 stages as resnet18 in this space, but got 2-2-2; change",
        ),
        (
            {"max_total_blocks": 3},
            r"no hierarchy satisfies the bounds: num_blocks allow 4\.\.16 blocks in all, but got "
            r"min_total_blocks = None and max_total_blocks = 3; widen",
        ),
        ({"min_total_blocks": 9, "max_total_blocks": 8}, r"no hierarchy satisfies the bounds"),
        (
            {"bounds": ((3, 4), (3, 4), (1, 3), (1, 3)), "constraint": "strict"},
            r"constraint strict with 2 shallow stages excludes every hierarchy within num_blocks "
            r"3\.\.4, 3\.\.4, 1\.\.3, 1\.\.3; allow fewer .* or set constraint = 'none'",
        ),
        (
            {"constraint": "strict", "max_total_blocks": 5},
            r"constraint strict .* with at most 5 blocks in all; allow fewer",
        ),
        (
            {"max_parameters": 100, "min_flops": 3},
            r"none of the 70 hierarchies within num_blocks and constraint satisfies the measured "
            r"bounds: must have num_parameters at most 100, but they have 1111\.\.4444; must have "
            r"flops at least 3, but they have 2222\.\.8888; widen",
        ),
        ({"bounds": ((9, 10),) * 3 + ((1, 8),) * 3 + ((1, 9),) * 3}, r"constraint accelerated"),
    ],
)
def test_a_space_without_a_hierarchy_is_refused_with_a_way_out(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_space(**settings)


def test_the_module_needs_neither_torch_nor_optuna():
    code = "import sys, dsaccel.space.space; assert not {'torch', 'optuna'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_search_space_is_usable_and_its_size_stands_in_the_table(path):
    space = SearchSpace(parse_config(SpaceConfig, read_toml(path), path.name), measure)
    table = (ROOT / "search_spaces/README.md").read_text()
    row = next(line for line in table.splitlines() if line.startswith(f"| `{path.name}`"))
    cells = [cell.strip() for cell in row.split("|")]
    box = math.prod(high - low + 1 for low, high in space.config.num_blocks)
    assert cells[3:5] == [str(box), str(space.size)]


def test_the_paper_s_resnet50_rows_are_within_the_bounds():
    space = SearchSpace(
        parse_config(SpaceConfig, read_toml(ROOT / "search_spaces/resnet50.toml"), "resnet50"),
        measure,
    )
    rows = ["3-4-6-3", "2-3-6-3", "1-2-6-3", "2-3-7-4", "1-2-8-5"]
    for row in rows:
        counts = zip(Hierarchy.parse(row).blocks, space.config.num_blocks, strict=True)
        assert all(low <= num_blocks <= high for num_blocks, (low, high) in counts)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_is_usable(path):
    config = parse_study(read_toml(path), path.name)
    parsed = [Hierarchy.parse(text) for text in config.references]
    references = [with_own_settings(reference, config) for reference in parsed]
    assert references
    assert SearchSpace(config.space, measure, references).size


def test_the_examples_of_the_readmes_are_usable():
    space = toml_examples(ROOT / "search_spaces/README.md")
    study = toml_examples(ROOT / "studies/README.md")
    assert set(space) == set(SpaceConfig.model_fields)
    parse_config(SpaceConfig, space, "search_spaces/README.md")
    parse_study(study, "studies/README.md")


def parse_study(tables, source):
    if isinstance(tables["space"], str):
        tables["space"] = read_toml(ROOT / "search_spaces" / f"{tables['space']}.toml")
    return parse_config(StudyConfig, tables, source)


def toml_examples(path):
    import tomllib

    return tomllib.loads(path.read_text().split("```toml\n")[1].split("```")[0])
