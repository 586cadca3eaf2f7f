"""Damaged and senseless input: nothing may end in a traceback, hang or write elsewhere.

    python benchmarks/fuzz.py --cases 100000 --seed 1

Each case damages a good input (bytes cut, flipped, doubled, exchanged for others; values exchanged
for odd ones) and gives it to the code that reads it. It must be read, or refused by a `UserError`,
within ten seconds of processor time (a minute, if it waits). Cases are told by kind, seed and
number, so that each can be repeated alone.
"""

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from dsaccel.analysis.landscape_files import read_landscape
from dsaccel.analysis.replay import Oracle, Replay
from dsaccel.analysis.replay_policies import policies
from dsaccel.cli.app import in_full
from dsaccel.config.own_settings import with_own_settings
from dsaccel.config.study import RunConfig, StudyConfig
from dsaccel.config.toml import parse_config, read_toml
from dsaccel.errors import ConfigError, UserError
from dsaccel.nn.network import load_network
from dsaccel.planner import Planner
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.folder import find_study
from dsaccel.training.checkpoint import checkpoint_key, load_checkpoint, save_checkpoint
from dsaccel.training.cohort import Cohort
from dsaccel.training.memory import training_bytes
from dsaccel.training.workbench import Workbench

ROOT = Path(__file__).parents[1]
LIMIT_S, WAIT_S = 10.0, 60.0
"""Of processor time, and of waiting."""
GOOD: dict[str, bytes] = {}
"""Files that are made before the first case."""
BENCH: list[Workbench] = []
STATE: list[str] = []
"""Of the checkpoint."""
ODD = (
    *("", "0", "-1", "1e999", "nan", "inf", "1" * 400, "1_0", "0x10", "true", "[]", "{}", "[[]]"),
    *(
        "[1, 1000000000]",
        '"\\u0000"',
        "\x1b[31m",
        "\ufeff",
        "\udcff",
        "ä" * 300,
        "../../etc/passwd",
    ),
    *(
        "/dev/zero",
        "/dev/null",
        ".",
        "..",
        "~",
        "-",
        "--",
        "%s%n",
        "'",
        '"',
        "=",
        "\n",
        "\r\n",
        "\x00",
    ),
    *("1-1-1", "1-1-100000000", "resnet18", "vgg", "digits", "predsim", "2026-01-01", "null"),
)
STUDY = """\
seed = 1
references = ["2-1-1"]
[space]
family = "resnet18"
num_blocks = [[1, 2], [1, 2], [1, 2]]
constraint = "accelerated"
[space.settings]
learning_rate = {low = 1e-4, high = 1e-2, log = true}
[data]
name = "digits"
image_size = 8
channels = 1
[network]
width = 0.0625
loss = "predsim"
[training]
epochs = 4
lr_milestones = [0.5, 0.75]
[budget]
n_trials = 6
strategy = "tpe"
[pruning]
kind = "halving"
"""
RUN = (
    'family = "resnet18"\nhierarchy = "1-2-1"\nseed = 3\nmode = "local"\n'
    + STUDY[STUDY.index("[data]") : STUDY.index("[budget]")]
)
SPACE = 'family = "vgg"\nnum_blocks = [[1, 2], [1, 3], [1, 3]]\nmax_parameters = 10000000\n'


class Hang(BaseException):
    """A case took too long; no `except Exception` may catch it."""


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Content with one to three changes."""
    for _ in range(rng.randint(1, 3)):
        start, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
        end = min(end, start + rng.choice((1, 4, 40, 4000)))
        odd = rng.choice(ODD).encode(errors="surrogateescape")
        noise, head, tail = rng.randbytes(end - start), content[:start], content[end:]
        changes = (head + tail, head + noise + tail, content[:end] + content[start:], head)
        content = rng.choice((*changes, head + odd + tail))
    return content


def damaged_text(text: str, rng: random.Random) -> bytes:
    """As `damaged`, or with one value exchanged for another one or an odd one."""
    kind = rng.random()
    if kind < 0.3:
        return damaged(text.encode(), rng)
    if kind < 0.6:  # numbers alone, so that more of it is read
        numbers = list(re.finditer(r"[0-9.]+", text))
        number = rng.choice(numbers)
        other = rng.choice((rng.choice(numbers)[0], str(rng.randint(0, 9)), "1e9", "-1", "600"))
        return (text[: number.start()] + other + text[number.end() :]).encode()
    words = text.replace("\n", " \n ").split(" ")
    for _ in range(rng.randint(1, 3)):
        words[rng.randrange(len(words))] = rng.choice((*ODD, rng.choice(words)))
    return " ".join(words).encode(errors="surrogateescape")


# ------------------------------------------------------------------ kinds


def study(rng: random.Random) -> None:
    Path("x.toml").write_bytes(damaged_text(STUDY, rng))
    config = parse_config(StudyConfig, find_study("x.toml")[1], "x.toml")
    filled = config.data.model_copy(update={"image_size": 8, "channels": 1})
    plan = Planner.of(config.model_copy(update={"data": filled}), 10)
    references = [with_own_settings(Hierarchy.parse(text), config) for text in config.references]
    space = SearchSpace.planned(
        config.space, plan, references, memory=training_bytes(config.training)
    )
    space.feasible()


def space(rng: random.Random) -> None:
    Path("x.toml").write_bytes(damaged_text(SPACE, rng))
    command("describe", ["--space", "x.toml"])


def run(rng: random.Random) -> None:
    Path("x.toml").write_bytes(damaged_text(RUN, rng))
    parse_config(RunConfig, read_toml(Path("x.toml")), "x.toml")


def hierarchy(rng: random.Random) -> None:
    good = rng.choice(("1-1-2-4", "2-2-2-2 loss=pred", "1-1-1 granularity=conv,block,stage"))
    text = damaged_text(good, rng).decode(errors="surrogateescape")
    command("describe", ["--", text.replace("\x00", "")])


def options(rng: random.Random) -> None:
    names = ("--width", "--loss", "--granularity", "--family", "--epochs", "--batch-size", "--set")
    given = [rng.choice(names) for _ in range(rng.randint(1, 3))]
    values = (rng.choice((*ODD, "network.width=", "data.name=")) for _ in given)
    words = [word for pair in zip(given, values, strict=True) for word in pair]
    command("describe", ["1-1-2", *(word.replace("\x00", "") for word in words)])


def weights(rng: random.Random) -> None:
    Path("x.safetensors").write_bytes(damaged(GOOD["weights"], rng))
    load_network("x.safetensors")


def checkpoint(rng: random.Random) -> None:
    """Damaged ones are passed over, or hold what was written."""
    Path("x.pt").write_bytes(damaged(GOOD["checkpoint"], rng))
    fresh = small_cohort()
    if load_checkpoint(Path("x.pt"), checkpoint_key("", small_cohort()), fresh):
        assert state_hash(fresh) == STATE[0], "another state was read"
    else:
        raise ConfigError("passed over")


def landscape(rng: random.Random) -> None:
    Path("x.csv").write_bytes(damaged_text(GOOD["landscape"].decode(), rng))
    read = read_landscape(Path("x.csv"))
    for policy in policies(read, "random", "2", 4, {}):
        list(Replay(Oracle(read), policy, seed=1).marks())


def command(name: str, words: list[str]) -> None:
    """A command of the command line, in this process."""
    with contextlib.suppress(SystemExit):
        in_full(name).main(words, prog_name=f"dsaccel {name}")


SHARES: dict[Callable[[random.Random], None], float] = {
    study: 0.35,
    run: 0.35,
    weights: 0.12,
    checkpoint: 0.05,
    landscape: 0.04,
    options: 0.04,
    hierarchy: 0.03,
    space: 0.02,
}
"""Of all cases: what takes longer has fewer."""
KINDS = {function.__name__: function for function in SHARES}


# ------------------------------------------------------------------ good inputs


def make_weights() -> bytes:
    """An untrained network's file."""
    from dsaccel.nn.network import plan_of
    from dsaccel.nn.units import build_units
    from dsaccel.nn.weights import ImageFacts, save_weights

    Path("x.toml").write_text(RUN)
    config = parse_config(RunConfig, read_toml(Path("x.toml")), "x.toml")
    plan = plan_of(config, 10, Path("x.toml"))
    units = [unit for segment in plan.segments for unit in build_units(segment, 1)]
    facts = ImageFacts((0.5,), (0.2,), tuple("0123456789"), "hash")
    save_weights(Path("x.safetensors"), units, config, facts)
    return Path("x.safetensors").read_bytes()


def small_cohort() -> Cohort:
    """Of two networks, not trained yet."""
    if not BENCH:
        config = parse_config(StudyConfig, tomllib.loads(STUDY), "a study")
        few = config.data.model_copy(update={"train_images": 40})
        BENCH.append(Workbench.open(config.model_copy(update={"data": few})))
    bench = BENCH[0]
    plans = {h: bench.plan(h) for h in map(Hierarchy.parse, ("1-1-1", "1-1-2"))}
    settings = bench.config.training, bench.data
    return Cohort(plans, *settings, seed=1, device=torch.device(bench.device))


def state_hash(cohort: Cohort) -> str:
    """Of all that a cohort has learned."""
    file = io.BytesIO()
    torch.save(cohort.state_dict(), file)
    return hashlib.sha256(file.getvalue()).hexdigest()


def make_checkpoint() -> bytes:
    """A cohort's after its first epoch."""
    cohort = small_cohort()
    key = checkpoint_key("", cohort)
    next(cohort.rungs())
    save_checkpoint(Path("x.pt"), key, cohort)
    read = small_cohort()
    assert load_checkpoint(Path("x.pt"), key, read)
    STATE.append(state_hash(read))
    return Path("x.pt").read_bytes()


def make_landscape() -> bytes:
    """Four hierarchies of the shipped one of the sequential schedule."""
    path = ROOT / "studies" / "landscapes" / "cifar10-resnet18-sequential.csv.gz"
    metadata, header, *rows = gzip.decompress(path.read_bytes()).decode().splitlines(True)
    metadata = metadata.replace(
        "[[1, 3], [1, 3], [1, 3], [1, 3]]", "[[1, 2], [1, 2], [1, 1], [1, 1]]"
    )
    few = [row for row in rows if re.match("[12]-[12]-1-1,", row)]
    Path("x.csv").write_text("".join((metadata, header, *few)))
    read_landscape(Path("x.csv"))
    return Path("x.csv").read_bytes()


# ------------------------------------------------------------------ the run


@contextlib.contextmanager
def limited() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang

    clocks = (
        (signal.ITIMER_PROF, signal.SIGPROF, LIMIT_S),
        (signal.ITIMER_REAL, signal.SIGALRM, WAIT_S),
    )
    for clock, number, limit_s in clocks:
        signal.signal(number, stop)
        signal.setitimer(clock, limit_s)
    try:
        yield
    finally:
        for clock, *_ in clocks:
            signal.setitimer(clock, 0)


def outcome(kind: str, seed: int, number: int) -> str:
    """How a case ended: read, refused, hang, or the kind of the error and where it was raised."""
    rng = random.Random(f"{kind} {seed} {number}")
    silent = io.StringIO()
    try:
        with limited(), contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            KINDS[kind](rng)
    except UserError:
        return "refused"
    except Hang:
        return "hang"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
    return "refused" if silent.getvalue().startswith(("dsaccel:", "Usage")) else "read"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(KINDS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    failed = False
    with tempfile.TemporaryDirectory() as outside:
        inside = Path(outside) / "here"
        inside.mkdir()
        os.chdir(inside)
        GOOD.update(weights=make_weights(), landscape=make_landscape())
        GOOD.update(checkpoint=make_checkpoint())
        with contextlib.redirect_stdout(io.StringIO()):
            command(
                "describe", ["1-1-1"]
            )  # imports may take longer than a case, and are not cut off
        known = {path.name for path in inside.iterdir()}
        for kind in given.kinds.split(","):
            ends: Counter[str] = Counter()
            first: dict[str, int] = {}
            start, slowest = time.perf_counter(), 0.0
            cases = round(given.cases * SHARES[KINDS[kind]])
            for number in range(cases):
                began = time.process_time()
                end = outcome(kind, given.seed, number)
                slowest = max(slowest, time.process_time() - began)
                ends[end] += 1
                first.setdefault(end, number)
            written = {path.name for path in inside.iterdir()} - known
            written |= {path.name for path in Path(outside).iterdir()} - {"here"}
            bad = {end: first[end] for end in ends if end not in ("read", "refused")}
            failed |= bool(bad or written)
            row = {"kind": kind, "cases": cases, **ends, "slowest_s": round(slowest, 2)}
            row |= {"time_s": round(time.perf_counter() - start), "written": sorted(written)}
            print(json.dumps(row | {"first": bad}), flush=True)
        os.chdir(ROOT)
    sys.exit(failed)


if __name__ == "__main__":
    main()
