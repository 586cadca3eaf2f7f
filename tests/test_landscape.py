"""The table of an exhaustive study: what is recorded, written, read and refused."""

import csv
import gzip
import json
import random
import sys
from dataclasses import replace

import optuna
import pytest
import torch
from helpers import num_undecided
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_study import heads, searched
from tiny_study import recorded as record_of

from dsaccel.analysis.landscape_files import check_output, read_landscape, write_landscape
from dsaccel.analysis.recorded import record_landscape
from dsaccel.analysis.tested import read_tests
from dsaccel.data.load import load_test
from dsaccel.errors import ConfigError, MismatchError, NoResultError
from dsaccel.nn.network import load_network
from dsaccel.spec.hierarchy import Hierarchy

EXHAUSTIVE = {
    "pruning": {"kind": "none"},
    "budget": {"n_trials": 5, "cohort_size": 5, "baseline": False},
    "training": {"epochs": 2},
    # four hierarchies, and the reference 2-1-1 outside them
    "space": {"num_blocks": [[1, 1], [1, 2], [1, 2]]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exhaustive")


@pytest.fixture(scope="module")
def recorded(folder):
    """The studies of two seeds, and their landscape."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        searches = [searched(f"seed{seed}", seed=seed, **EXHAUSTIVE) for seed in (1, 2)]
        return searches, record_landscape([record_of(s) for s in searches])


def test_a_landscape_holds_every_accuracy_of_every_study(recorded, folder, monkeypatch):
    searches, landscape = recorded
    monkeypatch.chdir(folder)
    assert landscape.num_classes == searches[0].data.num_classes
    assert list(landscape.accuracies) == [1, 2]
    for search in searches:
        table, read = landscape.accuracies[search.config.seed], heads(search)
        assert set(map(str, table)) == {"1-1-1", "1-1-2", "1-2-1", "1-2-2", "2-1-1"}
        assert not landscape.networks[Hierarchy((2, 1, 1))].is_feasible
        for trial in search.study.trials:
            hierarchy = Hierarchy.parse(trial.user_attrs["hierarchy"])
            assert list(table[hierarchy]) == [1, 2]
            assert [list(rung) for rung in table[hierarchy].values()] == read[str(hierarchy)]
            assert landscape.objective(search.config.seed, hierarchy) == trial.value
            assert landscape.plan(hierarchy) == search.plan(hierarchy)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_a_landscape_reads_back_as_it_was_written(recorded, tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"tiny.{suffix}"
    write_landscape(recorded[1], path)
    assert read_landscape(path) == recorded[1]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_csv_file_is_a_table_for_everyone(recorded, tmp_path):
    searches, landscape = recorded
    write_landscape(landscape, tmp_path / "tiny.csv.gz")
    with gzip.open(tmp_path / "tiny.csv.gz", "rt") as file:
        metadata = json.loads(file.readline().removeprefix("# dsaccel landscape "))
        rows = list(csv.DictReader(file))
    assert metadata["config"]["space"]["family"] == "resnet18"
    trial = searches[1].study.trials[0]
    name = trial.user_attrs["hierarchy"]
    last = [r for r in rows if (r["hierarchy"], r["seed"], r["epoch"]) == (name, "2", "2")]
    assert [row["head"] for row in last] == [str(i) for i in range(1, len(last) + 1)]
    assert [row["is_output"] for row in last] == ["false"] * (len(last) - 1) + ["true"]
    assert float(last[-1]["accuracy"]) == trial.value
    assert float(last[-2]["accuracy"]) == trial.intermediate_values[2]
    assert int(last[0]["num_parameters"]) == trial.user_attrs["num_parameters"]
    heads = sum(len(h) for t in landscape.accuracies[1].values() for h in t.values())
    assert len(rows) == 2 * heads


def test_the_seconds_are_those_of_a_network_alone(recorded):
    searches, landscape = recorded
    for search in searches:
        alone = landscape.seconds[search.config.seed]
        assert set(alone) == set(landscape.networks)
        trials = {t.user_attrs["hierarchy"]: t.user_attrs for t in search.study.trials}
        assert all(alone[h] == trials[str(h)]["alone_s"] for h in alone)
        # what networks share is counted once in the time of the study, and for each of them alone
        shared = sum(trials[str(h)]["time_s"] for h in alone)
        assert shared < sum(alone.values()) < len(alone) * shared
        assert alone[Hierarchy((1, 2, 2))] > alone[Hierarchy((1, 2, 1))]


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    """A study that has kept all weights, its folder, and its landscape with test accuracies."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("tested")
        patch.chdir(folder)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        search = searched("kept", **EXHAUSTIVE, runtime={"keep": 5, "all_heads": True})
        return search, folder, record_landscape([record_of(search)], tests=read_tests)


def test_a_landscape_has_the_test_accuracies_of_all_heads_and_exits(tested, tmp_path, monkeypatch):
    search, folder, landscape = tested
    monkeypatch.chdir(folder)
    (seed,) = landscape.tests
    # the reference outside of the space has no weights
    assert set(map(str, landscape.tests[seed])) == {"1-1-1", "1-1-2", "1-2-1", "1-2-2"}
    test = load_test(search.data)
    for hierarchy, (by_head, ensemble) in landscape.tests[seed].items():
        network = load_network(folder / f"studies/kept/weights/{hierarchy}.safetensors")
        images = test.pixels.permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            logits = network.heads(images)
        own = [out.softmax(1) for out in logits[:-1]]
        together = torch.stack(own[-(len(own) + 1) // 2 :]).mean(0)
        told = [*by_head, ensemble]
        for out, accuracy in zip([*logits, together], told, strict=True):
            off = (out.argmax(1) == test.labels).sum().item() - accuracy * len(test.labels)
            assert abs(off) <= num_undecided(out) + 1e-9
        read = landscape.test(seed, hierarchy)
        assert read.exits == {"layer": by_head[-1], "head": by_head[-2], "ensemble": ensemble}
        asked = {"seed": seed, "epoch": 2, "split": "test"}
        assert landscape.query(hierarchy, **asked) == by_head[-1]
        assert landscape.query(hierarchy, **asked, exit="ensemble") == ensemble
    with pytest.raises(ConfigError, match="step 1, exit layer, split test"):
        landscape.query("1-1-1", seed=seed, epoch=1, split="test")
    write_landscape(landscape, tmp_path / "tested.csv.gz")
    assert read_landscape(tmp_path / "tested.csv.gz") == landscape
    # each was read once, and that is recorded
    again = record_landscape([record_of(search)], tests=read_tests)
    assert again == landscape
    assert len(list(folder.glob("studies/kept/weights/*.readings.csv"))) == 4


@pytest.mark.parametrize(
    ("runtime", "what"),
    [({"keep": 1, "all_heads": True}, "has none of"), ({"keep": 5}, "has not all heads of")],
)
def test_a_landscape_without_the_weights_says_how_to_keep_them(
    tmp_path, monkeypatch, runtime, what
):
    monkeypatch.chdir(tmp_path)
    search = searched("lost", **EXHAUSTIVE | {"training": {"epochs": 1}}, runtime=runtime)
    with pytest.raises(NoResultError, match=rf"{what} .*with --keep 5 --all-heads"):
        record_landscape([record_of(search)], tests=read_tests)
    assert not list(tmp_path.rglob("*.readings.csv"))  # the test split was not looked at


def test_the_same_landscape_is_the_same_file(recorded, tmp_path, monkeypatch):
    for year, name in enumerate(("a.csv.gz", "b.csv.gz")):
        monkeypatch.setattr("gzip.time.time", lambda year=year: 3e7 * year)
        write_landscape(recorded[1], tmp_path / name)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()


def test_where_a_study_was_kept_is_not_in_its_landscape(recorded, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    search = recorded[0][0]
    data = search.config.data.model_copy(update={"dir": "/home/me/data"})
    secret = "postgresql+psycopg://user:secret@host/db"
    kept = search.config.model_copy(update={"storage": secret, "data": data})
    write_landscape(record_landscape([record_of(search, kept)]), tmp_path / "tiny.csv")
    text = (tmp_path / "tiny.csv").read_text()
    assert "secret" not in text
    assert "/home/me" not in text


@pytest.mark.parametrize(
    ("kind", "way_out"),
    [
        ("none", r"dsaccel search studies/part/study\.toml --n-trials 5$"),
        (
            "halving",
            r"--n-trials 5 --strategy exhaustive --cohort-size 5 .*--study-name part-landscape$",
        ),
    ],
)
def test_missing_hierarchies_are_counted_with_the_way_to_train_them(
    tmp_path, monkeypatch, kind, way_out
):
    monkeypatch.chdir(tmp_path)
    sections = EXHAUSTIVE | {"pruning": {"kind": kind}, "training": {"epochs": 1}}
    search = searched("part", **sections | {"budget": {"n_trials": 2, "cohort_size": 1}})
    num_missing = 5 - len(search.ledger.record().finished)
    assert 0 < num_missing <= 3
    with pytest.raises(NoResultError, match=rf"but {num_missing} are missing .*{way_out}"):
        record_landscape([record_of(search)])


def test_studies_that_differ_in_more_than_their_seed_are_refused(recorded):
    first, second = recorded[0]
    training = second.config.training.model_copy(update={"learning_rate": 0.5})
    changed = second.config.model_copy(update={"training": training})
    with pytest.raises(MismatchError, match=r"training\.learning_rate"):
        record_landscape([record_of(first), record_of(second, changed)])
    with pytest.raises(MismatchError, match="seed1 and seed1 both have 1"):
        record_landscape([record_of(first)] * 2)


def test_heads_that_are_damaged_are_refused(recorded, folder, monkeypatch):
    monkeypatch.chdir(folder)
    record = record_of(recorded[0][0])
    assert record.folder is not None
    path = record.folder / "1-0.json"
    whole = path.read_text()
    path.write_text(whole.replace("0", "1", 1))
    with pytest.raises(ConfigError, match=r"2-1-1 read in study seed1 .* are lost or damaged"):
        record_landscape([record])
    path.write_text(whole)
    record_landscape([record_of(recorded[0][0])])


def test_a_study_of_the_first_schema_is_refused_in_a_line(recorded):
    record = record_of(recorded[0][0])
    attributes = {k: v for k, v in record.attributes.items() if k != "num_classes"}
    record = replace(record, attributes=attributes)
    with pytest.raises(ConfigError, match="was written by an earlier version, which did not"):
        record_landscape([record])


def test_a_space_too_large_to_list_is_refused(recorded):
    search = recorded[0][0]
    space = search.config.space.model_copy(update={"num_blocks": ((1, 50),) * 3})
    changed = search.config.model_copy(update={"space": space})
    with pytest.raises(ConfigError, match="too large to list"):
        record_landscape([record_of(search, changed)])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.txt", "", "must be a .csv, .csv.gz or .parquet file"),
        ("x.csv", None, "cannot be read"),
        ("x.csv", "a,b\n1,2\n", "must be a table written by dsaccel landscape"),
        ("x.csv.gz", "no gzip", "cannot be read"),
        ("x.csv", '# dsaccel landscape {"format": 9}\n', "its format is 9, and this version reads"),
    ],
)
def test_what_is_no_landscape_is_refused(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_landscape(path)


def rewritten(recorded, path, change):
    """The landscape's file after `change` of its rows, a list of dicts."""
    write_landscape(recorded[1], path)
    first, *lines = path.read_text().splitlines()
    rows = change(list(csv.DictReader(lines)))
    with path.open("w", newline="") as file:
        file.write(first + "\n")
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return read_landscape(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: random.Random(1).sample(rows, len(rows)),
        lambda rows: sorted(rows, key=lambda row: float(row["accuracy"])),
        lambda rows: [dict(reversed(row.items())) for row in rows],
        lambda rows: [row | {"is_output": row["is_output"].upper()} for row in rows],
    ],
    ids=["shuffled", "by accuracy", "columns", "capitals"],
)
def test_rows_and_columns_may_be_in_any_order(recorded, tmp_path, change):
    read = rewritten(recorded, tmp_path / "x.csv", change)
    assert read == recorded[1]
    assert list(read.accuracies) == list(recorded[1].accuracies)
    assert list(read.networks) == list(recorded[1].networks)


def first_with(cells):
    """A change of the first row alone."""
    return lambda rows: [rows[0] | cells, *rows[1:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows, rows[5]], "two rows of 1-1-1, seed 1, epoch 1, head 6"),
        (lambda rows: rows[1:], r"1-1-1, seed 1, epoch 1 must have heads 1 to \d+, but has not"),
        (first_with({"is_output": "true"}), "another output layer than its last head"),
        (lambda rows: [r | {"is_output": "false"} for r in rows], "another output layer than"),
        (first_with({"flops": "5"}), "rows of 1-1-1 differ in what the network costs"),
        (first_with({"accuracy": "1.5"}), "accuracy of 1-1-1 must be within 0..1, but is 1.5"),
        (first_with({"accuracy": "nan"}), "accuracy of 1-1-1 must be within 0..1, but is nan"),
        (first_with({"hierarchy": "1-1-1-1"}), "1-1-1-1 has not as many stages"),
        (first_with({"hierarchy": "1-01-1"}), "must be written 1-1-1, but is 1-01-1"),
        (lambda rows: [r for r in rows if r["epoch"] != "1"], "each epoch from 1 to 2"),
        (lambda rows: [r | {"is_feasible": "false"} for r in rows], r"none .* is feasible"),
        (lambda rows: [r | {"num_parameters": "7"} for r in rows], "by its config, but 7 in"),
    ],
)
def test_rows_that_are_missing_doubled_or_contradict_themselves_are_refused(
    recorded, tmp_path, change, message
):
    with pytest.raises(ConfigError, match=message):
        rewritten(recorded, tmp_path / "x.csv", change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tables: tables.pop("config"), "config is missing"),
        (lambda tables: tables.pop("num_classes"), "num_classes is missing"),
        (lambda tables: tables.update(num_classes=[3]), "num_classes must be a whole number"),
        (lambda tables: tables["config"]["data"].pop("image_size"), "the size and the channels"),
    ],
)
def test_metadata_that_are_missing_or_wrong_are_refused(recorded, tmp_path, change, message):
    path = tmp_path / "x.csv"
    write_landscape(recorded[1], path)
    first, *rows = path.read_text().splitlines(keepends=True)
    tables = json.loads(first.removeprefix("# dsaccel landscape "))
    change(tables)
    path.write_text(f"# dsaccel landscape {json.dumps(tables)}\n{''.join(rows)}")
    with pytest.raises(ConfigError, match=message):
        read_landscape(path)


def test_lists_that_lie_too_deep_are_refused(tmp_path):
    (tmp_path / "x.csv").write_text("# dsaccel landscape " + "[" * 100_000)
    with pytest.raises(ConfigError, match="lie too deep"):
        read_landscape(tmp_path / "x.csv")


CELLS = st.sampled_from(["", "0", "1", "2", "-1", "1e9", "nan", "inf", "true", "x", "1-1-1"])
ROW = st.integers(0, 9999)


@settings(max_examples=50)
@given(
    changes=st.lists(st.tuples(ROW, st.integers(0, 13), CELLS), min_size=1, max_size=4),
    doubled=st.lists(ROW, max_size=2),
    removed=st.lists(ROW, max_size=2),
)
def test_whatever_a_row_holds_a_landscape_is_read_whole_or_refused(
    recorded, tmp_path_factory, changes, doubled, removed
):
    def change(rows):
        names = list(rows[0])
        for row, column, cell in changes:
            rows[row % len(rows)][names[column]] = cell
        rows += [dict(rows[row % len(rows)]) for row in doubled]
        for row in removed:
            rows.pop(row % len(rows))
        return rows

    try:
        read = rewritten(recorded, tmp_path_factory.mktemp("fuzz") / "x.csv", change)
    except ConfigError:
        return

    def shapes(landscape):
        return {
            (seed, hierarchy, step): len(heads)
            for seed, table in landscape.accuracies.items()
            for hierarchy, steps in table.items()
            for step, heads in steps.items()
        }

    assert shapes(read) == shapes(recorded[1])


def test_parquet_without_pyarrow_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'dsaccel\[parquet\]'"):
        check_output(tmp_path / "x.parquet")
