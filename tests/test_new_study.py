"""The way of who comes with images of their own: `dsaccel new`, and a search without a study."""

import io
import json
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from commands import run
from helpers import write_images
from rich.console import Console
from tiny_study import searched, searching, write_study
from typer.testing import CliRunner

from dsaccel.cli.app import app, in_full
from dsaccel.cli.examples import EXAMPLES
from dsaccel.errors import ConfigError
from dsaccel.report.live import LiveView
from dsaccel.search import forecast, progress
from dsaccel.search.new_study import Wish, design
from dsaccel.search.workload import Workload
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.text import about, read_mebibytes, read_seconds
from dsaccel.ticks import counted, listening

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("own_folder")]

SMALL = ("--width", "0.0625", "--epochs", "2", "--n-trials", "2", "--threads", "1", "--device=cpu")


def files() -> set[str]:
    return {path.as_posix() for path in Path().rglob("*") if path.is_file()}


def test_a_search_of_own_images_takes_nothing_of_the_digits_recipe(tmp_path):
    write_images(Path("photos"))
    result = run("search", "--data", "photos", *SMALL, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["study"] == "photos"
    written = tomllib.loads(Path("studies/photos.toml").read_text())
    assert written["data"]["name"] == "photos"
    assert written["references"] == ["2-2-2"], "the family's standard, as deep as the images allow"
    assert written["training"]["batch_size"] == 8
    again = run("search", "--data", "photos", *SMALL)
    assert "is finished: 2 hierarchies trained; nothing to do" in again.stderr
    write_images(Path("other/photos"))
    result = run("search", "--data", "other/photos")
    assert result.exit_code == 2
    assert "is a study of photos, not of other/photos" in result.stderr


@pytest.mark.parametrize(
    ("options", "standard"),
    [(("--family", "resnet50"), "3-4-6"), (("--space", "resnet18"), "2-2-2-2")],
)
def test_a_family_or_a_space_without_a_study_gets_its_own_standard(options, standard):
    result = run("search", *options, *SMALL, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["next_cohort"][0] == standard
    assert files() == set(), "a dry run writes nothing"


def test_a_study_file_of_own_images_says_what_fits_and_what_to_run_next(monkeypatch):
    monkeypatch.setattr("dsaccel.search.forecast.seconds_per_flop", lambda *_: 1e-9)
    write_images(Path("photos"))
    (Path("photos") / "train" / "a" / "notes.txt").write_text("no image")
    options = ("--data", "photos", "--budget", "20s", "--memory", "1GiB", "--device", "cpu")
    result = run("new", "mine", *options)
    assert result.exit_code == 0, result.output
    assert "16 images (a 8, b 8); 1 passed over" in result.stdout
    assert result.stdout.endswith("wrote studies/mine.toml; next: dsaccel search mine\n")
    written = tomllib.loads(Path("studies/mine.toml").read_text())
    assert len(written["space"]["num_blocks"]) == 3
    assert written["space"]["max_training_mib"] == written["runtime"]["memory_mib"] == 1024
    told = json.loads(run("search", "mine", "--dry-run", "--json").stdout)
    assert told["search_s"] + told["baseline_s"] < 20, "the file can be run, and fits the time"
    assert run("new", "more", *options, "--budget", "40s").exit_code == 0
    more = tomllib.loads(Path("studies/more.toml").read_text())
    longer = more["training"]["epochs"] > written["training"]["epochs"]
    assert longer or more["network"]["width"] > written["network"]["width"]
    refused = run("new", "mine", *options)
    assert (refused.exit_code, "exists already" in refused.stderr) == (2, True)
    short = run("new", "short", *options[:2], "--budget", "0.01s", *options[4:])
    few = tomllib.loads(Path("studies/short.toml").read_text())["training"]["epochs"]
    assert few < 8
    assert f"the budget of less than a second leaves {few} epoch" in short.stderr
    assert "learns little: 8 need about" in short.stderr
    assert "learns little" not in result.stderr


def test_three_steps_are_timed_once_for_each_width_and_are_heard_of(monkeypatch):
    timed, heard = [], []
    real = forecast.seconds_per_flop

    def spy(bench, hierarchy):
        timed.append(bench.config.network.width)
        return real(bench, hierarchy)

    monkeypatch.setattr(forecast, "seconds_per_flop", spy)
    write_images(Path("photos"))
    with listening(lambda *told: heard.append(told)):
        design("mine", Wish("photos", budget_s=1e-3, settings={"runtime.threads": 1}))
    assert timed == [1.0, 0.5, 0.25, 0.125]
    assert heard.count(("steps timed", 4, 4)) == 4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--data", "nowhere"), "data must be one of"),
        (("--data", "photos", "--budget", "soon"), "a time must be as 2h"),
        (("--data", "photos", "--memory", "4"), "a memory must be as 4GiB"),
        (("--data", "photos", "--family", "resnet7"), "resnet7"),
    ],
)
def test_a_study_that_cannot_be_made_is_one_line_and_nothing_is_written(options, told):
    write_images(Path("photos"))
    before = files()
    result = run("new", "mine", *options)
    assert (result.exit_code, told in result.stderr) == (2, True), result.stderr
    assert files() == before


def test_times_and_memories_are_read_as_people_write_them():
    assert [*map(read_seconds, ("2h", "90 min", "1h30min", "45s", "0.5h"))] == [
        *(7200, 5400, 5400, 45, 1800)
    ]
    assert [*map(read_mebibytes, ("4GiB", "500 MiB", "1gb"))] == [4096, 500, 954]
    for text in ("", "2", "h", "-1h", "2 h 3", "1.h.2m"):
        with pytest.raises(ConfigError, match="a time must be as 2h"):
            read_seconds(text)
    for read, text in ((read_seconds, "0s"), (read_mebibytes, "0GiB")):
        with pytest.raises(ConfigError, match="must be above 0"):
            read(text)
    assert [*map(about, (0.2, 21.4, 125))] == ["less than a second", "21 s", "2 min 05 s"]


def test_a_dry_run_tells_the_cohort_that_is_trained_first_and_writes_nothing():
    write_study(Path("studies/tiny.toml"))
    before = files()
    told = json.loads(run("search", "tiny", "--dry-run", "--json").stdout)
    assert files() == before
    assert told["num_left"] == 6
    assert min(told["search_s"], told["baseline_s"], told["cohort_bytes"]) > 0
    search = searching("tiny")
    assert told["next_cohort"] == list(map(str, search.loop.next().asked))
    for _ in search.run():
        pass
    told = json.loads(run("search", "tiny", "--dry-run", "--json").stdout)
    assert (told["num_left"], told["next_cohort"], told["baseline_s"]) == (0, [], 0)
    assert run("search", "tiny", "--dry-run").stdout.endswith("nothing is left to train\n")


def test_what_is_pruned_counts_as_far_as_it_is_trained():
    def searching_with(name: str, **pruning: object):
        return searching(name, budget={"n_trials": 4, "cohort_size": 4}, pruning=pruning)

    def work(search) -> float:
        return Workload.of(search.bench, search.ledger.record()).search

    search = searching_with("x", kind="none")
    full, halved = work(search), work(searching_with("y", kind="halving", grace_epochs=2))
    assert full / 2 < halved < full
    trie = search.loop.train(search.loop.next().asked, Untrained())
    assert full == sum(node.segment.flops for node in next(trie).trie.nodes())


class Untrained:
    """An executor whose run has its trie and trains nothing."""

    def start(self, plans: Any, harvest: Any, schedule: Any, stops: Any) -> Any:
        from dsaccel.spec.rung import Rung
        from dsaccel.spec.trie import Trie

        run = SimpleNamespace(trie=Trie(plans), step=1, prefixes=dict)
        run.rungs = lambda: iter([Rung(1, {})])
        return run


def test_time_left_counts_what_follows_and_is_never_nothing_while_there_is_work(monkeypatch):
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr("dsaccel.ticks.time.perf_counter", lambda: next(now))
    ledger = searched("tiny", budget={"n_trials": 2}).ledger
    standing = progress.Standing(ledger, 2, lambda record: {"search": 1.5, "baseline": 2})
    standing._read_study()
    rungs = [standing._time_left("search", done, 2) for done in (0.5, 1, 2)]
    assert rungs == [None, pytest.approx(20 * 2.5), pytest.approx(20 / 1.5 * 1.5)]
    assert [standing._time_left("baseline", done, 3) for done in (1, 2, 3)] == [None, 70, 60]
    standing._later = {"search": 0.0, "baseline": 0.0}
    assert [standing._time_left("baseline", done, 3) for done in (1, 2, 3)] == [None, 10, None]


def test_never_more_hierarchies_are_trained_than_there_are_to_be():
    for _ in searching("tiny", budget={"n_trials": 5, "cohort_size": 5}).run():
        break
    fewer = searching("tiny", budget={"n_trials": 2, "cohort_size": 5})
    shown = [(p.num_trained, p.n_trials) for p in fewer.run()]
    assert all(trained <= total for trained, total in shown)
    assert shown[-1][0] == 5


def test_a_long_loop_says_how_far_it_is_and_a_pipe_gets_a_line_now_and_then(capsys, monkeypatch):
    heard: list[tuple[str, int, int]] = []
    with listening(lambda *told: heard.append(told)):
        assert list(counted("ab", "letters", 2)) == ["a", "b"]
    assert heard == [("letters", 0, 2), ("letters", 1, 2), ("letters", 2, 2)]
    assert list(counted("a", "letters", 1)) == ["a"], "nobody need listen"
    clock = iter([0.0, 1.0, 16.0, 17.0])
    monkeypatch.setattr("dsaccel.report.live.time.monotonic", lambda: next(clock))
    with LiveView(Console(width=80)) as view:
        for done in (1, 2, 3):
            view.tick("images decoded", done, 10)
    assert capsys.readouterr().out == "images decoded 2 of 10\n"


def test_a_terminal_shows_no_long_loop_that_is_over():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with LiveView(Console(width=80, file=Terminal(), force_terminal=True)) as view:
        view._ticked = 0
        assert view._live is not None
        for done, text in ((0, "images decoded"), (2, "")):
            view.tick("images decoded", done, 2)
            with Console(width=80, file=io.StringIO()).capture() as captured:
                captured._console.print(view._live.renderable)
            assert (text in captured.get(), bool(captured.get().strip())) == (True, bool(text))


def test_names_of_studies_are_completed():
    write_study(Path("studies/own.toml"))
    variables = {"_DSACCEL_COMPLETE": "complete_bash", "COMP_WORDS": "dsaccel confirm o"}
    shown = CliRunner().invoke(app, env=variables | {"COMP_CWORD": "2"}, prog_name="dsaccel")
    assert shown.stdout.split() == ["own"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_one_that_its_command_takes(name):
    command = in_full(name)
    for line in EXAMPLES[name]:
        program, called, *args = line.split()
        assert (program, called) == ("dsaccel", name)
        with command.make_context(name, args) as context:
            assert context.params
    shown = run(name, "--help").stdout
    assert all(line in shown for line in EXAMPLES[name])


def test_timing_three_steps_leaves_random_numbers_and_weights_as_they_were():
    first = searched("first", budget={"n_trials": 2})
    torch.manual_seed(0)
    before = torch.get_rng_state()
    second = searching("second", budget={"n_trials": 2})
    from dsaccel.search.forecast import seconds_per_flop

    assert seconds_per_flop(second.bench, Hierarchy((1, 1, 1))) > 0
    assert torch.equal(torch.get_rng_state(), before)
    for _ in second.run():
        pass
    assert [t.value for t in first.study.trials] == [t.value for t in second.study.trials]
