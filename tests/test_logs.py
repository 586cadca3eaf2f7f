"""`--log`: what other programs can read of a training."""

import csv
import json
from pathlib import Path

import pytest
from commands import run
from tiny_study import write_study

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("own_folder")]


def table() -> list[dict[str, str]]:
    with Path("logs/units.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_search_logs_each_unit_of_each_network_and_goes_on_in_the_same_files():
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write_study(Path("studies/tiny.toml"))
    few = ("--epochs", "2", "--n-trials", "2", "--log", "logs")
    assert run("search", "tiny", *few).exit_code == 0
    rows = table()
    search = [row for row in rows if row["phase"] == "search"]
    assert {row["epoch"] for row in search} == {"1", "2"}
    heads = {row["head"] for row in search if row["hierarchy"] == "2-1-1"}
    assert {"stem", "output"} <= heads
    assert all(0 <= float(row["val_accuracy"]) <= 1 for row in rows)
    lines = [json.loads(line) for line in Path("logs/events.jsonl").read_text().splitlines()]
    assert {line["phase"] for line in lines} == {"search", "baseline"}
    assert lines[-1]["best"][0] in {row["hierarchy"] for row in rows}
    accumulated = events.EventAccumulator("logs")
    accumulated.Reload()
    named = "search/2-1-1/val_accuracy/output"
    read = [round(scalar.value, 5) for scalar in accumulated.Scalars(named)]
    own = [r for r in search if (r["hierarchy"], r["head"]) == ("2-1-1", "output")]
    assert read == [round(float(row["val_accuracy"]), 5) for row in own]
    assert run("train", "1-1-1", "--study", "tiny", "--epochs", "1", "--log", "logs").exit_code == 0
    assert table()[: len(rows)] == rows
    assert {row["phase"] for row in table()[len(rows) :]} == {"train local"}


def test_a_log_that_cannot_be_written_is_one_line_before_anything_is_trained():
    write_study(Path("studies/tiny.toml"))
    Path("logs").write_text("a file")
    result = run("search", "tiny", "--log", "logs")
    assert (result.exit_code, result.stderr.count("\n")) == (4, 1)
    assert not Path("studies/tiny").exists()
