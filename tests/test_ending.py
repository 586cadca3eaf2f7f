"""How commands end: signals, streams that cannot be written, text and names from elsewhere."""

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w
import torch
import typer
from safetensors.torch import load_file
from test_cli import dsaccel, run, states_of
from tiny_study import write_study

from dsaccel.cli.ending import guarded
from dsaccel.config.toml import parse_override, read_toml
from dsaccel.errors import ConfigError
from dsaccel.nn.sealed import is_whole
from dsaccel.study.folder import StudyDir
from dsaccel.text import printable, redacted

pytestmark = pytest.mark.long

URL = "postgresql+psycopg://me:CANARY@host/db"
TRAINED = (
    "--data",
    "digits",
    "--train-images",
    "200",
    "--epochs",
    "4",
    "--batch-size",
    "32",
    "--width",
    "0.125",
    "--threads",
    "1",
)
LONG = ("--set", "training.epochs=500", "--study-name", "long")


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSACCEL_CACHE", str(tmp_path.parent / "cache"))
    write_study(Path("studies/tiny.toml"), budget={"n_trials": 2, "baseline": False})


def begun(*args: str) -> subprocess.Popen[str]:
    """A search that is training."""
    process = subprocess.Popen(
        dsaccel("search", "tiny", *LONG, *args),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert any("search epoch 2/500" in line for line in process.stderr)
    return process


def test_a_terminal_that_hangs_up_ends_a_search_as_sigterm_does():
    with begun() as process:
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate()
    assert process.returncode == 129
    assert "stopped; continue with: dsaccel search tiny" in err
    assert set(states_of("long")) == {"FAIL"}
    # the signal has it saved: it is younger than a checkpoint gets
    assert is_whole(StudyDir("long").checkpoint)


def test_a_training_that_was_terminated_goes_on_where_it_was_and_comes_to_the_same():
    def train(name, stop_after=None):
        args = ["1-1-1", *TRAINED, "-o", f"{name}.safetensors", "--schedule", "sequential"]
        with subprocess.Popen(
            dsaccel("train", *args), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            if stop_after:
                assert process.stderr is not None
                assert any(stop_after in line for line in process.stderr)
                process.send_signal(signal.SIGTERM)
            process.communicate()
        return process.returncode

    assert train("whole") == 0
    assert train("cut", stop_after="stage 1/") == 143
    assert is_whole(Path("cut.checkpoint.pt"))
    assert train("cut") == 0
    assert not Path("cut.checkpoint.pt").exists()
    weights, others = (load_file(f"{name}.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_signals_that_follow_the_first_end_the_process_at_once_and_without_a_traceback():
    with begun() as process:
        for _ in range(5):
            process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["x.csv", None])
def test_an_error_of_the_system_is_one_line(capsys, name):
    def command() -> None:
        raise OSError(errno.EIO, "Input/output error", name)

    with pytest.raises(typer.Exit) as ended:
        guarded(command)()
    assert ended.value.exit_code == 4
    said = f"dsaccel: {name or 'the system'} cannot be used: Input/output error\n"
    assert capsys.readouterr().err == said


def test_what_is_ignored_stays_ignored():
    code = (
        "import os, signal; from dsaccel.cli.ending import guarded\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "guarded(lambda: os.kill(os.getpid(), signal.SIGHUP))(); print('lives')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "lives" in result.stdout, result.stderr


def test_a_command_that_was_stopped_is_told_without_the_password_and_for_a_shell():
    code = (
        "import sys; from dsaccel.cli.ending import guarded\n"
        "def command(): raise KeyboardInterrupt\n"
        "guarded(command)()"
    )
    args = ["search", "my study", "--storage", URL, f"--set=storage='{URL}?password=CANARY'"]
    result = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert "CANARY" not in result.stderr
    told = re.search("continue with: (.*)", result.stderr)
    assert told is not None
    assert shlex.split(told[1])[:3] == ["dsaccel", "search", "my study"]
    assert "postgresql+psycopg://me:***@host/db" in result.stderr


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:pa@ss@host/db", "postgresql://u:***@host/db"),
        ("mysql://u@host/db?password=a&x=1", "mysql://u@host/db?password=***&x=1"),
        ("sqlite:///studies/a.db", "sqlite:///studies/a.db"),
        ("--storage=postgresql://u:p@h/d", "--storage=postgresql://u:***@h/d"),
    ],
)
def test_a_password_in_a_url_is_not_shown(url, shown):
    assert redacted(url) == shown


@pytest.mark.parametrize(("closed", "json_"), [(False, ()), (True, ("--json",))])
def test_results_that_stdout_does_not_take_are_kept_in_a_file(closed, json_):
    train = ["train", "1-1-1", "--study", "tiny", "--epochs", "1", "-q", *json_]
    into = ">&-" if closed else "> /dev/full"
    command = shlex.join([sys.executable, "-m", "dsaccel", *train])
    result = subprocess.run(["sh", "-c", f"{command} {into}"], stderr=subprocess.PIPE, text=True)
    assert result.returncode == 4, result.stderr
    assert result.stderr.count("\n") == 1
    assert "stdout must be writable" in result.stderr
    (path,) = Path().glob("dsaccel-results-*.txt")
    assert str(path) in result.stderr
    kept = path.read_text()
    assert json.loads(kept)["hierarchy"] == "1-1-1" if json_ else "validation accuracy" in kept


def test_progress_that_nobody_can_read_ends_nothing():
    for into in ("2>&-", "2> /dev/full"):
        command = shlex.join([sys.executable, "-m", "dsaccel", "describe", "1-1-1", "--json"])
        result = subprocess.run(["sh", "-c", f"{command} {into}"], stdout=subprocess.PIPE)
        assert result.returncode == 0
        assert json.loads(result.stdout)["hierarchy"] == "1-1-1"


def test_a_console_of_few_characters_is_written_to():
    environment = dict(os.environ, PYTHONIOENCODING="cp1252")
    for args in (["describe"], ["describe", "\u2193"]):
        result = subprocess.run(
            [sys.executable, "-m", "dsaccel", *args], capture_output=True, env=environment
        )
        assert b"Traceback" not in result.stderr
    assert (
        b"11.17 M"
        in subprocess.run(
            [sys.executable, "-m", "dsaccel", "describe"], capture_output=True, env=environment
        ).stdout
    )


def test_what_would_steer_a_terminal_is_shown_and_not_sent():
    assert printable("a\x1b[31mb\rc\u202ed\n") == "a\\x1b[31mb\\rc\\u202ed\n"
    assert printable("äöü ± 日本 \U0001f600") == "äöü ± 日本 \U0001f600"
    foreign = {
        "family": "resnet18",
        "hierarchy": "1-1-1",
        "result": {"init": "..\n\x1b[31m"},
    }
    Path("best.toml").write_text(tomli_w.dumps(foreign))
    result = run("train", "best.toml")
    assert result.exit_code == 2
    assert "\x1b" not in result.output
    assert "\\x1b[31m" in result.stderr


def test_a_name_in_a_table_does_not_steer_a_terminal():
    from dsaccel.cli.output import Output

    result = run("evaluate", "\x1b[2J.toml")
    assert "\x1b" not in result.output
    from rich.table import Table

    table = Table.grid()
    table.add_row("\x1b[2J")
    with Path("shown").open("w") as file:
        output = Output()
        output.result.file = file
        output.show(table, "\x1b[2J")
    assert Path("shown").read_text() == "\\x1b[2J\n\\x1b[2J\n"


@pytest.mark.parametrize("name", ["abc\n", "a" * 201, "", "../a"])
def test_a_study_has_a_name_that_a_folder_can_have(name):
    with pytest.raises(ConfigError, match="200 at most"):
        StudyDir(name)
    for args in (("report", name), ("search", "tiny", "--study-name", name)):
        result = run(*args)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output


def test_a_path_that_no_system_takes_is_one_line():
    for args in (("search", "tiny", "--space", "a" * 5000), ("report", "a/" * 5000)):
        result = run(*args)
        assert result.exit_code in (2, 4), result.output
        assert result.stderr.count("\n") == 1


def test_threads_have_an_upper_limit():
    for threads in ("5000", "9" * 23):
        result = run("train", "1-1-1", "--threads", threads)
        assert result.exit_code == 2
        assert "runtime.threads" in result.stderr
        assert "1024" in result.stderr
    for option, limit in (("--batch-size", "1000000"), ("--seed", str(2**63 - 1))):
        result = run("train", "1-1-1", option, "9" * 23)
        assert result.exit_code == 2
        assert limit in result.stderr


def test_text_with_a_backslash_in_quotes_is_refused_with_a_way_out():
    with pytest.raises(ConfigError, match="leave the quotes out, or write each backslash twice"):
        parse_override(r'data.name="C:\Users\me"')
    assert parse_override(r"data.name=C:\Users\me") == ("data.name", r"C:\Users\me")
    assert parse_override(r'data.name="C:\\me"') == ("data.name", r"C:\me")


def test_toml_of_other_editors_is_read_or_refused_in_one_line(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes("\ufeffa = 1\n".encode())
    assert read_toml(path) == {"a": 1}
    refused = {
        "a = 1\n".encode("utf-16"): "must be UTF-8, but is UTF-16",
        b"a = '\xff'": "must be TOML",
        b"a = " + b"[" * 5000: "too deep",
    }
    for content, told in refused.items():
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=told):
            read_toml(path)
    with pytest.raises(ConfigError, match="too deep"):
        parse_override("space.num_blocks=" + "[" * 5000)


def test_only_regular_files_are_studies(tmp_path):
    os.mkfifo(tmp_path / "fifo.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    (tmp_path / "folder.toml").mkdir()
    for name in ("fifo", "zero", "folder"):
        result = run("search", tmp_path / f"{name}.toml")
        assert result.exit_code == 2
        assert "no regular file" in result.stderr
