"""The command line as its users see it: output, files, exit codes."""

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest
from commands import run
from PIL import Image
from tiny_study import write_study

from dsaccel.errors import StorageError


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSACCEL_CACHE", str(tmp_path.parent / "cache"))
    write_study(Path("studies/tiny.toml"), budget={"n_trials": 3})
    return tmp_path


def dsaccel(*args: str) -> list[str]:
    """In a process that heeds signals which one begun in the background, or by nohup, ignores."""
    heed = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    )
    return [sys.executable, "-c", f"{heed}from dsaccel.cli.app import main; main()", *args]


def files() -> set[str]:
    return {p.relative_to(Path.cwd()).as_posix() for p in Path.cwd().rglob("*") if p.is_file()}


@pytest.mark.long
def test_search_writes_a_study_a_config_and_a_report_and_says_where():
    result = run("search", "tiny")
    assert result.exit_code == 0, result.output
    written = ("study.db", "best.toml", "report.html", "study.toml")
    for name in written:
        assert f"studies/tiny/{name}" in result.stdout
        assert Path(f"studies/tiny/{name}").is_file()
    assert "global back-propagation" in result.stdout
    assert "search epoch 4/4" in result.stderr
    assert "dsaccel dashboard tiny" in result.stdout
    again = run("search", "tiny")
    assert again.exit_code == 0
    assert "is finished" in again.stderr


def test_search_json_is_one_object_on_stdout():
    result = run("search", "tiny", "--json")
    summary = json.loads(result.stdout)
    assert set(summary) == {
        *("study", "storage", "num_trained", "num_pruned", "num_harvested", "blocks_trained"),
        *("blocks_separate", "time_s", "best", "baseline", "trials", "environment", "files"),
    }
    best = next(trial for trial in summary["trials"] if trial["feasible"])
    assert best["val_accuracy"] == summary["best"]["val_accuracy"]
    assert summary["num_trained"] == 3
    assert summary["storage"] == "sqlite:///studies/tiny/study.db"
    assert set(summary["best"]) == {"hierarchy", "val_accuracy", "exits", "num_parameters"}
    assert set(summary["baseline"]) == {"hierarchy", "val_accuracy"}
    assert all(Path(path).is_file() for path in summary["files"].values())
    always = {"study", "best", "weights", "baseline", "report", "config"}
    assert set(summary["files"]) - {"harvest"} == always
    assert ("harvest" in summary["files"]) == Path("studies/tiny/harvest.csv").is_file()
    assert "feasible hierarchies are trained" not in result.stderr


def test_what_is_piped_is_neither_wrapped_nor_cut():
    settings = {"learning_rate": {"choices": [0.0123456789]}, "dropout": {"choices": [0.123456789]}}
    space = {"num_blocks": [[1, 1]] * 3, "settings": settings}
    write_study(Path("studies/long.toml"), space=space, references=[], training={"epochs": 1})
    shown = run("search", "long", "-q").stdout
    name = "1-1-1 learning_rate=0.0123456789 dropout=0.123456789"
    assert f"│ {name} │" in shown
    assert re.search(f"^best      {name}  .* parameters  trial 0$", shown, re.MULTILINE)


@pytest.mark.parametrize("terminal", ["xterm-256color", "dumb"])
def test_colour_that_is_forced_makes_no_terminal_of_a_pipe(monkeypatch, terminal):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", terminal)
    settings = {"learning_rate": {"choices": [0.0123456789]}, "dropout": {"choices": [0.123456789]}}
    space = {"num_blocks": [[1, 1]] * 3, "settings": settings}
    write_study(Path("studies/long.toml"), space=space, references=[], training={"epochs": 1})
    result = run("search", "long")
    assert "search epoch 1/1" in result.stderr
    # neither is the cursor moved nor a line erased, and no name is wrapped
    assert not re.search(r"\x1b\[[^m]*[A-Zhl]", result.output)
    name = "1-1-1 learning_rate=0.0123456789 dropout=0.123456789"
    shown = re.sub(r"\x1b\[[\d;]*m", "", result.stdout)
    assert re.search(f"^best      {name}  .* parameters  trial 0$", shown, re.MULTILINE)


def test_an_exhausted_space_is_said_and_what_was_read_beside_it_is_listed():
    bounds = "space.num_blocks=[[1, 1], [1, 1], [2, 3]]"
    settings = ["--set", bounds, "--set", "references=[]", "--set", "budget.baseline=false"]
    options = ["--cohort-size", "2", *settings, "--json"]
    result = run("search", "tiny", "--strategy", "exhaustive", *options)
    assert result.exit_code == 0, result.output
    assert "all 2 feasible hierarchies are trained" in result.stderr
    harvest = json.loads(result.stdout)["files"]["harvest"]
    assert harvest == "studies/tiny/harvest.csv"
    assert "1-1-1" in Path(harvest).read_text()
    again = run("search", "tiny", *options)
    assert "all 2 feasible hierarchies are trained" in again.stderr
    refused = run("search", "tiny", "--strategy", "tpe", *options)
    assert refused.exit_code == 5
    assert "budget.strategy: exhaustive in the study, tpe asked for" in refused.stderr


@pytest.mark.long
def test_an_exported_config_and_the_study_train_to_the_trials_accuracy():
    best = json.loads(run("search", "tiny", "--json").stdout)["best"]
    assert run("export", "tiny", "-o", "best.toml").exit_code == 0
    from_config = json.loads(run("train", "best.toml", "--json").stdout)
    from_study = json.loads(run("train", best["hierarchy"], "--study", "tiny", "--json").stdout)
    for trained in (from_config, from_study):
        assert trained["hierarchy"] == best["hierarchy"]
        assert trained["val_accuracy"] == best["val_accuracy"]
        assert trained["num_parameters"] == best["num_parameters"]
        assert set(trained) == {
            *("hierarchy", "mode", "val_accuracy", "head_accuracies", "num_parameters"),
            *("exits", "time_s", "peak_memory_bytes", "head_names", "points"),
        }
        assert trained["peak_memory_bytes"] > 2**20
    other = json.loads(run("train", "best.toml", "--mode", "global", "--json").stdout)
    assert other["mode"] == "global"
    assert {len(row) for row in other["head_accuracies"]} == {1}


def test_export_does_not_write_over_a_file_unless_forced():
    run("search", "tiny")
    Path("best.toml").write_text("mine")
    refused = run("export", "tiny")
    assert refused.exit_code == 2
    assert "exists already" in refused.stderr
    assert Path("best.toml").read_text() == "mine"
    assert run("export", "tiny", "--force", "--hierarchy", "2-1-1").exit_code == 0
    assert 'hierarchy = "2-1-1"' in Path("best.toml").read_text()


@pytest.mark.long
def test_report_is_written_where_asked():
    run("search", "tiny")
    result = run("report", "tiny", "-o", "page.html")
    assert result.exit_code == 0
    assert "<html" in Path("page.html").read_text()


def test_describe_counts_the_papers_resnet18():
    shown = json.loads(run("describe", "--json").stdout)
    assert shown["hierarchy"] == "2-2-2-2"
    assert shown["num_parameters"] == 11_173_962
    assert shown["num_local_losses"] == 17
    assert [stage["resolution"] for stage in shown["stages"]] == [32, 16, 8, 4]
    assert "11.17 M" in run("describe").stdout


def test_settings_are_overridden_by_options_and_by_set():
    result = run("search", "tiny", "--epochs", "2", "--set", "training.lr_decay=0.5", "--json")
    assert result.exit_code == 0, result.stderr
    recorded = Path("studies/tiny/study.toml").read_text()
    assert "epochs = 2" in recorded
    assert "lr_decay = 0.5" in recorded


@pytest.mark.long
def test_a_study_name_gives_a_study_of_its_own_that_is_found_by_name():
    assert run("search", "tiny", "--study-name", "mine", "--seed", "5").exit_code == 0
    assert Path("studies/mine/study.db").is_file()
    assert not Path("studies/tiny").exists()
    assert "is finished" in run("search", "mine").stderr


def test_another_setting_on_an_existing_study_exits_5_with_the_difference():
    run("search", "tiny")
    result = run("search", "tiny", "--epochs", "9")
    assert result.exit_code == 5
    assert "training.epochs: 4 in the study, 9 asked for" in result.stderr


def test_export_before_anything_is_finished_exits_3(monkeypatch):
    assert run("search", "tiny", "--timeout", "0.001").exit_code == 0
    result = run("export", "tiny")
    assert result.exit_code == 3
    assert "no finished trial" in result.stderr


def test_a_search_that_meets_no_feasible_hierarchy_does_not_call_itself_finished(monkeypatch):
    for module in ("proposals", "suggestions", "outcome"):
        monkeypatch.setattr(f"dsaccel.search.{module}.MAX_DRAWS", 200)
    # widths without end: any of them may keep the bound
    width = "space.settings.width"
    endless = ["--set", f"{width}.low=0.06", "--set", f"{width}.high=0.07"]
    args = [*endless, "--set", "space.max_parameters=1", "--epochs", "1", "--n-trials", "4"]
    for says in ["", "has nothing to propose: 1 hierarchies trained"]:
        result = run("search", "tiny", *args)
        assert result.exit_code == 3, result.output
        message = " ".join(result.stderr.split())
        assert says in message
        assert "of 200 hierarchies drawn none was feasible and new" in message
        assert "widen its measured bounds, or narrow num_blocks" in message
        assert "none of 1 is; widen the measured bounds or prune less" in message
        assert "finished:" not in message
        assert "larger --n-trials" not in message


@pytest.mark.parametrize("how", ["-q", "--json", "--confirm"])
def test_a_search_in_which_nothing_finishes_says_so_and_exits_3(how):
    all_stop = ["--pruning", "ThresholdPruner", "--set", "pruning.options.lower=0.99"]
    few = ["--set", "references=[]", "--cohort-size", "2"]
    for _ in range(2):  # also when it has nothing left to train
        result = run("search", "tiny", *all_stop, *few, how)
        assert result.exit_code == 3, result.output
        assert "must end with a finished hierarchy within its constraint" in result.stderr
        assert "but none of 3 is" in result.stderr
        assert ('"num_pruned": 3' if how == "--json" else "no trial has completed") in result.stdout


def test_a_network_that_does_not_fit_into_memory_exits_6_and_writes_nothing():
    before = files()
    for command in (("train", "2-2-2", "-o", "model.safetensors"), ("search",)):
        limit = ("--set", "runtime.memory_mib=1", "--batch-size", "512", "--width", "1")
        study = ("--study", "tiny") if command[0] == "train" else ("tiny",)
        result = run(*command, *study, *limit)
        assert result.exit_code == 6, result.output
        assert "MiB to train" in result.stderr
        assert "runtime.memory_mib" in result.stderr
        assert result.stderr.count("\n") < 6  # a message, no traceback
        if command[0] == "train":
            assert files() == before


def test_a_missing_database_exits_4_and_is_not_created():
    run("search", "tiny")
    Path("studies/tiny/study.db").unlink()
    result = run("report", "tiny")
    assert result.exit_code == 4
    assert not Path("studies/tiny/study.db").exists()


def fill_disk(path: str) -> None:
    """Let what is written for this file meet a full disk."""
    Path(f"{path}.part").symlink_to("/dev/full")


@pytest.mark.long
def test_a_file_that_cannot_be_written_exits_4_and_the_trials_are_kept():
    Path("studies/tiny/report.html").mkdir(parents=True)
    result = run("search", "tiny", "-q")
    assert result.exit_code == 4
    assert "studies/tiny/report.html must be writable" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(Path("studies/tiny").glob("*.part"))
    assert "COMPLETE" in states_of("tiny")
    Path("studies/tiny/report.html").rmdir()
    assert "nothing to do" in run("search", "tiny").stderr
    fill_disk("studies/tiny/report.html")
    assert run("report", "tiny").exit_code == 4
    Path("studies/new").write_text("in the way")
    named = run("search", "tiny", "--study-name", "new")
    assert named.exit_code == 4
    assert "studies/new must be writable" in named.stderr


def test_of_two_errors_the_first_is_told(monkeypatch):
    def fail(*_: object) -> None:
        raise StorageError("the first")

    monkeypatch.setattr("dsaccel.study.trials.Ledger.tell", fail)
    Path("studies/tiny/report.html").mkdir(parents=True)
    result = run("search", "tiny", "-q")
    assert result.exit_code == 4
    assert result.stderr == "dsaccel: the first\n"


def test_weights_that_cannot_be_written_are_refused_before_training(monkeypatch):
    fill_disk("x.safetensors")
    args = ["train", "1-1-1", "--study", "tiny", "--epochs", "1", "-o", "x.safetensors"]
    with monkeypatch.context() as patch:
        patch.setattr("dsaccel.training.train.Training.rungs", lambda _: pytest.fail("trained"))
        result = run(*args)
    assert result.exit_code == 4
    assert "x.safetensors must be writable, but: No space left on device" in result.stderr

    # full only when the network is trained: the accuracy is told all the same
    fill_disk("x.safetensors")
    monkeypatch.setattr("dsaccel.cli.train.check_writable", lambda *_: None)
    late = run(*args)
    assert late.exit_code == 4
    assert "validation accuracy" in late.stdout
    assert "trained, but the weights are lost: x.safetensors must be writable" in late.stderr
    assert not list(Path().glob("x.*"))


def image_folder(path: Path, classes=("a", "b"), num_images=12) -> Path:
    for label, name in enumerate(classes):
        folder = path / "train" / name
        folder.mkdir(parents=True)
        for i in range(num_images):
            Image.new("RGB", (9, 10), (20 * i, 200 * label, 0)).save(folder / f"{i}.png")
    return path


def test_a_folder_of_images_without_test_images_says_validation_only():
    folder = image_folder(Path("images"))
    args = ["--study-name", "folder", "--set", "data.train_images=8", "--json"]
    result = run("search", "tiny", "--data", folder, *args)
    assert result.exit_code == 0, result.stderr
    assert "no test split" in result.stderr
    recorded = Path("studies/folder/study.toml").read_text()
    assert "image_size = 9" in recorded
    assert "channels = 3" in recorded


def test_a_space_is_described_before_anything_is_trained():
    space = 'family = "vgg"\nnum_blocks = [[1, 2], [1, 2], [1, 2]]\nconstraint = "none"\n'
    Path("e.toml").write_text(space)
    shown = run("describe", "--space", "e.toml", "--width", "0.125")
    assert shown.exit_code == 0, shown.output
    assert re.search(r"feasible +8 *\nsmallest +1-1-1 ", shown.stdout)
    assert run("describe", "1-1-1", "--space", "e.toml").exit_code == 2
    Path("e.toml").write_text(space + "max_parameters = 1")
    empty = run("describe", "--space", "e.toml")
    assert empty.exit_code == 2
    assert "none of the 8 hierarchies" in empty.stderr
    assert files() == {"studies/tiny.toml", "e.toml"}


def test_a_mistake_in_a_space_file_is_told_with_its_file():
    good = 'family = "resnet18"\nnum_blocks = [[1, 2], [1, 2], [1, 2]]\n'
    mistakes = {
        'constraint = "acelerated"': "e.toml: constraint must be 'accelerated'",
        "max_params = 3": "e.toml: unknown key max_params",
        "settings = {learning_rate = 0.1}": "e.toml: settings.learning_rate must be a table",
        "constraint = strict": "e.toml must be TOML, but: Invalid value (at line 3, column 14)",
    }
    for line, told in mistakes.items():
        Path("e.toml").write_text(good + line)
        result = run("search", "tiny", "--space", "e.toml")
        assert result.exit_code == 2
        assert told in result.stderr
    # that of a study file, too: the last mistake is still there
    Path("study.toml").write_text('space = "e.toml"')
    result = run("search", "study.toml", "--study-name", "x")
    assert "e.toml must be TOML, but: Invalid value" in result.stderr
    assert "; text must be in quotes" in result.stderr


def test_brackets_in_a_path_are_shown_as_they_are():
    folder = image_folder(Path("images[/a]"))
    Path("[red]").mkdir()
    settings = ["--set", "data.train_images=8", "--epochs", "1", "--width", "0.0625"]
    result = run("search", "tiny", "--data", folder, "--study-name", "x[b]", *settings)
    assert result.exit_code == 2, result.output  # of the study's name, and before anything else
    result = run("search", "tiny", "--data", folder, *settings)
    assert result.exit_code == 0, result.output
    assert "images[/a]: no test split" in result.stderr
    result = run("train", "1-1-1", "--data", folder, "-o", "[red]/x.safetensors", *settings)
    assert result.exit_code == 0, result.output
    assert "weights  [red]/x.safetensors" in result.stdout


def empty_class(path: Path) -> Path:
    (image_folder(path) / "train" / "c").mkdir()
    return path


def no_image(path: Path) -> Path:
    (image_folder(path) / "train" / "a" / "broken.png").write_text("no image")
    return path


BAD_FOLDERS = {
    "missing": (lambda path: path, "no-such-folder|data"),
    "no train folder": (lambda path: path.mkdir() or path, "train"),
    "empty class": (empty_class, "c"),
    "no image": (no_image, "broken.png"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_bad_folder_exits_2_and_writes_nothing(case):
    make, named = BAD_FOLDERS[case]
    folder = make(Path("images"))
    before = files()
    result = run("search", "tiny", "--data", folder, "--set", "data.train_images=8")
    assert result.exit_code == 2, result.output
    assert re.search(named, result.stderr)
    assert files() == before


BAD_ARGUMENTS = {
    "family": (["search", "tiny", "--family", "resnet19"], "resnet19"),
    "data": (["search", "tiny", "--data", "cifar11"], "cifar11"),
    "no data": (["search", "tiny", "--data", ""], "data must be one of digits"),
    "study": (["search", "no-such-study"], "no-such-study"),
    "space": (["search", "tiny", "--space", "no-such-space"], "no-such-space"),
    "study name": (["search", "tiny", "--study-name", "../evil"], "../evil"),
    "number": (["search", "tiny", "--epochs", "0"], "epochs"),
    "word": (["search", "tiny", "--loss", "bogus"], "bogus"),
    "key": (["search", "tiny", "--set", "training.epoch=3"], "training.epoch"),
    "no value": (["search", "tiny", "--set", "training.epochs"], "KEY=VALUE"),
    "bounds": (["search", "tiny", "--set", "space.num_blocks=[[2,1],[1,2],[1,2]]"], "stage 1"),
    "nothing feasible": (["search", "tiny", "--set", "space.max_total_blocks=2"], "2"),
    "device": (["search", "tiny", "--device", "cuda:99"], "cuda:99"),
    "hierarchy": (["train", "1-x-1"], "1-x-1"),
    "length": (["train", "1-1", "--study", "tiny"], "1-1"),
    "zero": (["describe", "1-0-1"], "1-0-1"),
    "described key": (["describe", "1-1-1", "--set", "foo.bar=3"], "unknown key foo"),
    "described value": (["describe", "1-1-1", "--set", "training.epochs=0"], "training.epochs"),
    "mode": (["train", "1-1-1", "--study", "tiny", "--mode", "both"], "both"),
    "config": (["train", "no-such.toml"], "no-such.toml"),
    "report": (["report", "tiny"], "studies/tiny"),
    "export": (["export", "tiny"], "studies/tiny"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_input_exits_2_with_the_value_and_writes_nothing(case):
    args, named = BAD_ARGUMENTS[case]
    before = files()
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert named in result.stderr
    assert "Traceback" not in result.output
    assert files() == before


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("space = 3", "space"),
        ("spaec = 'digits'", "spaec"),
        ("space = 'digits'\n[training]\nepochs = 'ten'", "training.epochs"),
        ("not toml", "TOML"),
    ],
)
def test_a_bad_study_file_exits_2(text, named):
    Path("studies/bad.toml").write_text(text)
    result = run("search", "bad")
    assert result.exit_code == 2, result.output
    assert named in result.stderr
    assert not Path("studies/bad").exists()


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_search_says_how_to_go_on_and_does(number, code):
    args = ["search", "tiny", "--set", "training.epochs=500", "--study-name", "long"]
    environment = dict(os.environ, COLUMNS="200")
    with subprocess.Popen(
        dsaccel(*args), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "search epoch 2/500" in line:
                    break
            process.send_signal(number)
            _, err = process.communicate()
        finally:
            process.kill()
    assert process.returncode == code, err
    # sys.argv of a `-c` program is its options alone
    assert "stopped; continue with: dsaccel search tiny" in err
    assert "Traceback" not in err
    states = states_of("long")
    assert states
    assert set(states) == {"FAIL"}


def states_of(name: str) -> list[str]:
    with closing(sqlite3.connect(f"studies/{name}/study.db")) as database:
        return [state for (state,) in database.execute("SELECT state FROM trials ORDER BY number")]


def test_help_imports_neither_torch_nor_optuna_nor_pydantic():
    code = (
        "import sys\nfrom dsaccel.cli.app import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'optuna', 'pydantic', 'numpy', 'plotly'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
    )
    assert "heavy: []" in result.stdout
    assert "search" in result.stdout


@pytest.mark.long
@pytest.mark.parametrize("module", ["dsaccel", "dsaccel.cli.app"])
def test_the_command_line_is_run_as_a_module_too(module):
    shown = subprocess.run(
        [sys.executable, "-m", module, "describe", "1-0-1"], capture_output=True, text=True
    )
    assert shown.returncode == 2
    assert "1-0-1" in shown.stderr


def test_granularity_is_one_word_or_one_for_each_stage():
    shown = run("describe", "1-1-1", "--granularity", "stage,block,conv", "--json")
    # stem and first stage together, a block, two convolutions
    assert json.loads(shown.stdout)["num_local_losses"] == 4
    shown = run("describe", "1-1-1", "--granularity", "none,none,stage,none", "--json")
    assert json.loads(shown.stdout)["num_units"] == 2
    refused = run("describe", "1-1-1", "--granularity", "stage,conv")
    assert refused.exit_code == 2
    assert "or 4 with the stem's first, but got 2: stage, conv" in refused.stderr


def test_quiet_shows_the_result_alone():
    result = run("search", "tiny", "-q")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "hierarchy" in result.stdout


def test_an_exhaustive_study_is_written_as_a_landscape_and_replayed():
    few = ["--set", "space.num_blocks=[[1,1],[1,2],[1,2]]", "--epochs", "1"]
    every = ["--set", "pruning.kind=none", "--n-trials", "5", "--cohort-size", "5"]
    no_baseline = ["--set", "budget.baseline=false"]
    assert run("search", "tiny", *few, *every, *no_baseline).exit_code == 0
    result = run("landscape", "tiny")
    assert result.exit_code == 0, result.output
    assert "4 feasible hierarchies, seeds 1" in result.stdout
    table = Path("landscape.csv.gz")
    assert table.is_file()
    args = ["--n-trials", "4", "--cohort-size", "1,2", "--seeds", "2", "--jobs", "1"]
    shown = run("replay", table, *args, "-o", "replay.html")
    assert shown.exit_code == 0, shown.output
    assert "regret, points" in shown.stdout
    assert "replay.html" in shown.stdout
    assert "<html" in Path("replay.html").read_text()
    outcomes = json.loads(run("replay", table, *args, "--json").stdout)["outcomes"]
    assert [(o["strategy"], o["cohort_size"]) for o in outcomes] == [
        *(("tpe", 1), ("tpe", 2), ("random", 1), ("random", 2))
    ]
    for args, named in [
        (["--strategy", "bogus"], "strategy must be one of"),
        (["--cohort-size", "a"], "cohort_size must be whole numbers"),
        (["--pruning", "bogus"], "kind"),
        (["--set", "training.epochs=2"], "--set takes pruning.KEY=VALUE, but got training"),
        (["-o", "no/such.html"], "no"),
    ]:
        refused = run("replay", table, *args)
        assert refused.exit_code == 2, refused.output
        assert named in refused.stderr


def way_out(message: str) -> list[str]:
    """The arguments of the command that a message ends with."""
    return shlex.split(message.rpartition("with: dsaccel ")[2])


@pytest.mark.parametrize("pruning", ["halving", "percentile", "none"])
def test_a_landscape_of_a_study_that_is_not_exhaustive_exits_3_and_its_way_out_trains_it(pruning):
    few = ["--set", "space.num_blocks=[[1,1],[1,2],[1,1]]", "--set", "references=[]"]
    percentile = ["--set", "pruning.percentile=50"] if pruning == "percentile" else []
    # not as the study file says
    args = [*few, *percentile, "--pruning", pruning, "--epochs", "1", "--n-trials", "1"]
    assert run("search", "tiny", "--strategy", "random", *args).exit_code == 0
    result = run("landscape", "tiny")
    assert result.exit_code == 3
    assert "are missing" in result.stderr
    assert not Path("landscape.csv.gz").exists()
    assert run(*way_out(result.stderr)).exit_code == 0
    name = "tiny" if pruning == "none" else "tiny-landscape"
    assert "epochs = 1" in Path(f"studies/{name}/study.toml").read_text()
    recorded = run("landscape", name)
    assert recorded.exit_code == 0, recorded.output
    assert "2 feasible hierarchies" in recorded.stdout


def test_what_an_export_misses_is_trained_by_its_way_out():
    settings = ["--epochs", "1", "--set", "space.num_blocks=[[1,1],[1,1],[1,2]]"]
    # the only trial is the reference, which is outside the space
    assert run("search", "tiny", "--n-trials", "1", *settings).exit_code == 3
    missing = run("export", "tiny")
    assert missing.exit_code == 3
    assert run(*way_out(missing.stderr)).exit_code == 0
    assert run("export", "tiny").exit_code == 0
    other = run("export", "tiny", "--hierarchy", "2-2-2", "-o", "other.toml")
    assert other.exit_code == 0
    assert "2-2-2 -> other.toml, not trained in tiny" in other.stderr
    assert "result" not in tomllib.loads(Path("other.toml").read_text())
    trained = run("train", "other.toml")
    assert trained.exit_code == 0, trained.output
    assert "epoch 1/1" in trained.stderr
    assert run("export", "tiny", "--hierarchy", "2-2", "-o", "x.toml").exit_code == 2
    assert not Path("x.toml").exists()


def test_a_study_that_is_nowhere_is_answered_with_those_that_are_known():
    result = run("report", "nowhere")
    assert result.exit_code == 2
    assert "a study that was run, but got 'nowhere'; known here:" in result.stderr
