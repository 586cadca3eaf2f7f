"""Options that come from the config: which there are, and what they do."""

import re

import pytest
from commands import run

from dsaccel.cli.app import COMMANDS

TRAINED = (
    "--data --data-dir --download --train-images --epochs --schedule --width --device --threads "
    "--seed --set --trust-part --json --quiet --verbose "
)
CURVES = "--curves --no-curves "
WORKERS = (
    "--workers --devices --cluster --scratch --cluster-insecure --no-cluster-insecure --tls-ca "
    "--tls-cert --tls-key "
)
OF_NETWORKS = (
    "--family --batch-size --learning-rate --granularity --loss --dropout --precision --exit "
)
OPTIONS = {
    "new": "--data --space --budget --memory --force --no-force --family --device --download "
    "--json --quiet",
    "search": TRAINED
    + OF_NETWORKS
    + CURVES
    + WORKERS
    + "--space --n-trials --strategy --cohort-size --pruning "
    "--against --timeout --storage --confirm --no-confirm --study-name --dry-run "
    "--keep --all-heads --no-all-heads --log",
    "list": "--json",
    "predict": "--top --trust-part --json",
    "reproduce": WORKERS
    + "--scale --rows --seeds --hybrids --no-train --protocol --data --data-dir "
    "--download --device --threads --memory-mib --json --quiet --verbose",
    "confirm": WORKERS
    + "--top --seeds --controls --no-controls --tuning-trials --margin --resolution "
    "--download --trust-part --json --quiet",
    "train": TRAINED + OF_NETWORKS + CURVES + "--study --mode --init --output --force --no-force "
    "--log",
    "evaluate": "--confusion --per-class --predictions "
    "--split --data --data-dir --download --device --threads --trust-part --json",
    "describe": "--family --channels --image-size --num-classes --granularity --loss --width "
    "--exit --batch-size --schedule --precision --set --trust-part --space --json",
    "export": "--onnx --torch --output --hierarchy --up-to --force --no-force",
    "report": "--output --figure --checklist --format",
    "curves": "--output",
    "dashboard": "--port",
    "compare": "--trust-part --json",
    "fit": "--all-heads --no-all-heads --budget --data --device --download --epochs --family "
    "--json --memory --n-trials --name --quiet --set --threads --width",
    "pareto": "--against --output --json",
    "calibrate": TRAINED + WORKERS + "--seeds --n-trials --output",
    "variance": "--prefix-stages --resolution --trust-part --json",
    "landscape": "--trust-part --output --test",
    "clean": "",
    "replay": "--strategy --n-trials --cohort-size --beam-width --seeds --pruning --prune-by "
    "--set --reduction-factor --grace-epochs --jobs --output --trust-part --json "
    "--quiet",
}


def shown(*args: str) -> str:
    result = run(*args)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_a_command_has_the_options_that_it_had(command):
    text = run(command.__name__, "--help").output
    lines = [line for line in text.splitlines() if re.match(r"^ {2,4}-", line)]
    found = {name for line in lines for name in re.findall(r"--[a-z-]+", line.split("  ")[1])}
    assert found == {*OPTIONS[command.__name__].split(), "--help"}


def test_help_is_the_fields_docstring_with_its_default_and_its_words():
    text = shown("search", "--help")
    assert re.search(r"--epochs <int> Passes over the training images .*\[default: 400\]", text)
    assert re.search(
        r"--loss predsim\|pred\|sim\|mse\|transport\|reconstruct Local loss of every unit", text
    )
    assert re.search(r"--granularity conv\|block\|stage\|none Where gradients are cut", text)
    assert "CPU threads; default: one a core." in text
    assert re.search(r"--confirm / --no-confirm .*\[default: no\]", text)
    assert "None" not in text
    assert "`" not in text


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_each_option_says_what_it_is_for(command):
    text = run(command.__name__, "--help").output
    text = text.partition("Options:")[2].partition("Examples:")[0]
    options = re.split(r"^ {2,4}(?=-)", text, flags=re.MULTILINE)
    for option in options[1:]:
        assert len(option.split()) >= 4, option
        assert option.strip()[-1] in ".)]", option
