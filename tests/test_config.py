"""Settings are checked where they are read: a mistake is one message, and nothing is guessed."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dsaccel.config.study import (
    BudgetConfig,
    DataConfig,
    NetworkConfig,
    PruningConfig,
    RunConfig,
    RuntimeConfig,
    Section,
    SpaceConfig,
    StudyConfig,
    TrainingConfig,
)
from dsaccel.config.toml import (
    differences,
    parse_config,
    parse_override,
    read_toml,
    set_value,
    write_toml,
)
from dsaccel.errors import ConfigError, StorageError
from dsaccel.parts import part_of

SPACE = {"family": "resnet18", "num_blocks": [[1, 2], [1, 2], [1, 4]]}


def study(**tables: Any) -> StudyConfig:
    return parse_config(StudyConfig, {"space": SPACE, **tables}, "study.toml")


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A table with one mistake, and what the message must say."""

    section: str
    key: str
    value: Any
    said: str


OUT_OF_RANGE = [
    Mistake("training", "epochs", 0, "greater than or equal to 1, but got 0"),
    Mistake("training", "batch_size", 1, "greater than or equal to 2, but got 1"),
    Mistake("training", "learning_rate", 0.0, "greater than 0, but got 0.0"),
    Mistake("training", "learning_rate", float("nan"), "finite number, but got nan"),
    Mistake("training", "learning_rate", float("inf"), "finite number, but got inf"),
    Mistake("training", "lr_decay", 1.5, "less than or equal to 1, but got 1.5"),
    Mistake("training", "lr_milestones", [0.5, 1.5], "within 0..1, in ascending order"),
    Mistake("training", "lr_milestones", [0.0], "within 0..1, in ascending order"),
    Mistake("training", "lr_milestones", [0.75, 0.5], "within 0..1, in ascending order"),
    Mistake("training", "output_weight", 0, "greater than 0, but got 0"),
    Mistake("training", "adam_eps", -1e-8, "greater than 0, but got -1e-08"),
    Mistake("training", "precision", "fp16", "'fp32' or 'bf16', but got 'fp16'"),
    Mistake("training", "schedule", "random", "but got 'random'"),
    Mistake("network", "width", 0, "greater than 0, but got 0"),
    Mistake("network", "width", 65, "less than or equal to 64, but got 65"),
    Mistake("network", "beta", 1.1, "less than or equal to 1, but got 1.1"),
    Mistake("network", "beta", -0.1, "greater than or equal to 0, but got -0.1"),
    Mistake("network", "dropout", 1.0, "less than 1, but got 1.0"),
    Mistake("network", "dropout", -0.1, "greater than or equal to 0, but got -0.1"),
    Mistake("network", "decoder_size", 0, "greater than or equal to 1, but got 0"),
    Mistake("network", "first_loss", 0, "greater than or equal to 1, but got 0"),
    Mistake("network", "num_hidden", -1, "greater than or equal to 0, but got -1"),
    Mistake("network", "sim_kernel", 5, "must be 1 or 3, but got 5"),
    Mistake(
        "network",
        "loss",
        "ce",
        "one of predsim, pred, sim, mse, transport, reconstruct, or an import path as "
        "./mine.py:Mine, but got 'ce'",
    ),
    Mistake(
        "network", "granularity", "layer", "'conv', 'block', 'stage' or 'none', but got 'layer'"
    ),
    Mistake("network", "granularity", ["conv", "unit"], "'conv', 'block', 'stage' or 'none'"),
    Mistake("data", "image_size", 3, "greater than or equal to 4, but got 3"),
    Mistake("data", "image_size", 513, "less than or equal to 512, but got 513"),
    Mistake("data", "channels", 2, "1 or 3, but got 2"),
    Mistake("data", "val_fraction", 0.0, "greater than 0, but got 0.0"),
    Mistake("data", "val_fraction", 1.0, "less than 1, but got 1.0"),
    Mistake("data", "train_images", 1, "greater than or equal to 2, but got 1"),
    Mistake("data", "crop_padding", -1, "greater than or equal to 0, but got -1"),
    Mistake("data", "cutout", -1, "greater than or equal to 0, but got -1"),
    Mistake("budget", "n_trials", 0, "greater than or equal to 1, but got 0"),
    Mistake("budget", "cohort_size", 0, "greater than or equal to 1, but got 0"),
    Mistake("budget", "timeout_s", 0, "greater than 0, but got 0"),
    Mistake(
        "pruning",
        "kind",
        "median",
        "an Optuna pruner as MedianPruner, or an import path as ./mine.py:Mine, but got 'median'",
    ),
    Mistake("pruning", "reduction_factor", 1, "greater than 1, but got 1"),
    Mistake("pruning", "grace_epochs", 0, "greater than or equal to 1, but got 0"),
    Mistake("runtime", "threads", 0, "greater than or equal to 1, but got 0"),
    Mistake("space", "constraint", "half", "but got 'half'"),
    Mistake("space", "shallow_stages", 0, "greater than or equal to 1, but got 0"),
    Mistake("space", "num_blocks", [[1, 2], [3, 2]], "of stage 2 must be [lowest, highest]"),
    Mistake("space", "num_blocks", [[0, 2], [1, 2]], "of stage 1 must be [lowest, highest]"),
    Mistake("space", "num_blocks", [[1, 2]], "at least 2 items"),
    Mistake("space", "min_total_blocks", 0, "greater than or equal to 1, but got 0"),
    Mistake("space", "max_parameters", 0, "greater than or equal to 1, but got 0"),
    Mistake("space", "min_flops", 0, "greater than or equal to 1, but got 0"),
    Mistake("space", "max_shallow_scale", 1.1, "less than or equal to 1, but got 1.1"),
]
WRONG_TYPE = [
    Mistake("training", "epochs", "many", "whole number"),
    Mistake("training", "epochs", 1.5, "whole number"),
    Mistake("training", "learning_rate", "fast", "a number"),
    Mistake("training", "lr_milestones", 0.5, "but got 0.5"),
    Mistake("network", "pred_conv", "perhaps", "true or false"),
    Mistake("network", "granularity", 3, "'conv', 'block', 'stage' or 'none', but got 3"),
    Mistake("data", "name", 7, "text in quotes, but got 7"),
    Mistake("space", "num_blocks", [[1, 2], ["a", 2]], "whole number"),
    Mistake("space", "num_blocks", [[1, 2], [1, 2, 3]], "at most 2 items"),
]
NO_NUMBER = [
    Mistake("training", "epochs", True, "whole number"),
    Mistake("training", "epochs", "10", "whole number"),
    Mistake("training", "learning_rate", False, "a number"),
    Mistake("training", "learning_rate", "0.1", "a number"),
    Mistake("network", "pred_conv", 1, "true or false"),
    Mistake("network", "pred_conv", "yes", "true or false"),
]


@pytest.mark.parametrize("mistake", [*OUT_OF_RANGE, *WRONG_TYPE, *NO_NUMBER])
def test_a_wrong_value_is_refused_with_its_name_and_what_was_expected(mistake):
    section = SPACE | {mistake.key: mistake.value}
    if mistake.section != "space":
        section = {mistake.key: mistake.value}
    with pytest.raises(ConfigError) as error:
        study(**{mistake.section: section})
    message = str(error.value)
    assert message.startswith(f"study.toml: {mistake.section}.{mistake.key}")
    assert mistake.said in message
    # one line, one value
    assert message.count("\n") == 0
    assert message.count("but got") == 1
    assert error.value.exit_code == 2


def test_a_references_mistake_is_told_once():
    with pytest.raises(ConfigError) as error:
        study(references=["1-1-1", "1-1-x"])
    assert str(error.value).count("but got") == 1


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"epoch": 3}, "study.toml: unknown key epoch; expected one of: space, references, seed"),
        (
            {"training": {"epoch": 3}},
            "study.toml: unknown key training.epoch; expected one of: schedule, schedule_options, ",
        ),
        ({"space": SPACE | {"stages": 4}}, "unknown key space.stages; expected one of: family"),
        ({"training": 7}, "study.toml: training must be"),
        ({"seed": -1}, "study.toml: seed must be greater than or equal to 0, but got -1"),
        ({"references": ["1-1-x"]}, "study.toml: references.* but got '1-1-x'"),
    ],
)
def test_an_unknown_key_is_refused_with_the_known_ones(tables, message):
    with pytest.raises(ConfigError, match=message):
        study(**tables)


def test_each_mistake_is_one_line():
    with pytest.raises(ConfigError) as error:
        study(training={"epochs": 0, "rate": 1}, data={"cutout": -1})
    lines = str(error.value).splitlines()
    assert [line.split()[1] for line in lines] == ["data.cutout", "training.epochs", "unknown"]


def test_what_is_missing_is_named():
    with pytest.raises(ConfigError, match=r"study\.toml: space is missing"):
        parse_config(StudyConfig, {}, "study.toml")
    with pytest.raises(ConfigError, match=r"study\.toml: space\.family is missing"):
        study(space={"num_blocks": SPACE["num_blocks"]})
    with pytest.raises(ConfigError, match=r"best\.toml: hierarchy is missing"):
        parse_config(RunConfig, {"family": "vgg"}, "best.toml")


def test_a_config_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        TrainingConfig().epochs = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_bad_toml_is_refused_with_the_file_and_the_place(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("[training\nepochs = 3\n")
    with pytest.raises(ConfigError, match=r"broken\.toml must be TOML, but: .*line 1"):
        read_toml(path)
    path.write_bytes(b"name = '\xff\xfe'")
    with pytest.raises(ConfigError, match=r"broken\.toml must be TOML, but: .*utf-8"):
        read_toml(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read: No such file"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read: it is a folder"):
        read_toml(tmp_path)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("training.epochs=10", "training.epochs", 10),
        ("training.learning_rate = 3e-4", "training.learning_rate", 3e-4),
        ("network.pred_conv=true", "network.pred_conv", True),
        ("data.name=cifar10", "data.name", "cifar10"),
        ("data.name='cifar10'", "data.name", "cifar10"),
        ("data.dir=a=b", "data.dir", "a=b"),
        ("data.dir=", "data.dir", ""),
        ("space.num_blocks=[[1, 2], [1, 3]]", "space.num_blocks", [[1, 2], [1, 3]]),
    ],
)
def test_an_override_is_a_key_and_a_toml_value_or_a_bare_word(text, key, value):
    assert parse_override(text) == (key, value)


@pytest.mark.parametrize("searched", [False, True])
def test_units_that_learn_one_after_another_must_be_cut(searched):
    own = {"space": {"family": "resnet18", "num_blocks": [[1, 2]] * 3}}
    if searched:
        own["space"]["settings"] = {"cuts": {"choices": [True, False]}}
    else:
        own["network"] = {"cuts": False}
    with pytest.raises(ConfigError, match="must be simultaneous where gradients are not cut"):
        parse_config(StudyConfig, {**own, "training": {"schedule": "sequential"}}, "a test")


@pytest.mark.parametrize("text", ["epochs", "=10", " =10", ""])
def test_an_override_without_key_or_value_is_refused(text):
    with pytest.raises(ConfigError, match="--set must be KEY=VALUE, for example") as error:
        parse_override(text)
    assert repr(text) in str(error.value)


def test_set_reaches_nested_tables_and_leaves_the_others():
    tables: dict[str, Any] = {"training": {"epochs": 1}, "seed": 3}
    set_value(tables, "training.epochs", 10)
    set_value(tables, "network.width", 0.5)
    set_value(tables, "seed", 4)
    assert tables == {"training": {"epochs": 10}, "seed": 4, "network": {"width": 0.5}}
    config = study(**{key: tables[key] for key in ("training", "network", "seed")})
    assert (config.training.epochs, config.network.width, config.seed) == (10, 0.5, 4)


def test_a_value_is_no_section_to_set_something_in():
    with pytest.raises(ConfigError, match=r"seed\.x cannot be set: seed is a value"):
        set_value({"seed": 3}, "seed.x", 1)


def test_an_override_is_checked_as_the_file_is():
    tables: dict[str, Any] = {"space": dict(SPACE)}
    set_value(tables, *parse_override("training.epoch=10"))
    with pytest.raises(ConfigError, match=r"unknown key training\.epoch"):
        parse_config(StudyConfig, tables, "--set")


FULL = StudyConfig(
    space=SpaceConfig(
        family="resnet50",
        num_blocks=((1, 2), (1, 3), (1, 8)),
        constraint="strict",
        max_shallow_scale=0.7,
    ),
    references=("1-1-2", "3-4-6"),
    seed=7,
    storage="sqlite:///a b.db",
    data=DataConfig(name='images/a"b', channels=3, flip=False, val_fraction=0.2),
    network=NetworkConfig(granularity=("stage", "block", "conv"), width=0.25, pred_conv=True),
    training=TrainingConfig(learning_rate=1e-4, adam_eps=1e-8, lr_milestones=()),
    budget=BudgetConfig(timeout_s=3.5, baseline=False),
    pruning=PruningConfig(kind="none"),
    runtime=RuntimeConfig(threads=2),
)


@pytest.mark.parametrize(
    "config",
    [
        FULL,
        StudyConfig(space=FULL.space),
        RunConfig(family="vgg", hierarchy="1-1-2", result={"val_accuracy": 0.5, "trial": 3}),
    ],
)
def test_a_written_config_reads_back_the_same(tmp_path, config: Section):
    path = tmp_path / "config.toml"
    write_toml(path, config)
    assert parse_config(type(config), read_toml(path), str(path)) == config
    assert [file.name for file in tmp_path.iterdir()] == ["config.toml"]  # no half-written file
    assert differences(config, parse_config(type(config), read_toml(path), "")) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    write_toml(path, FULL)
    before = path.read_text()

    def full_disk(self: Path, text: str, **_kwargs: Any) -> None:
        self.write_bytes(text.encode()[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(StorageError, match="No space left"):
        write_toml(path, StudyConfig(space=FULL.space))
    assert path.read_text() == before


def test_references_are_written_in_one_way():
    assert study(references=[" 1-01-2 "]).references == ("1-1-2",)


def test_differences_name_each_setting_with_both_values():
    other = FULL.model_copy(
        update={
            "seed": 8,
            "storage": None,
            "network": FULL.network.model_copy(update={"granularity": "conv"}),
        }
    )
    assert differences(FULL, other) == [
        "network.granularity: ('stage', 'block', 'conv') in the study, conv asked for",
        "seed: 7 in the study, 8 asked for",
        "storage: sqlite:///a b.db in the study, None asked for",
    ]
    assert differences(FULL, FULL.model_copy(deep=True)) == []


def test_the_learning_rate_decays_after_the_papers_milestones():
    training = TrainingConfig(epochs=400, learning_rate=3e-4)
    assert part_of(training, "lr_schedule").decay_epochs(training.epochs) == (200, 300, 356, 376)
    rates = [training.learning_rate_at(epoch) for epoch in (1, 200, 201, 300, 301, 356, 357)]
    assert rates == pytest.approx([3e-4, 3e-4, *[7.5e-5] * 2, *[1.875e-5] * 2, 4.6875e-6])
    assert training.learning_rate_at(376) == pytest.approx(4.6875e-6)
    assert training.learning_rate_at(377) == training.learning_rate_at(400)
    assert training.learning_rate_at(400) == pytest.approx(3e-4 / 4**4)


def test_a_short_schedule_keeps_the_papers_proportions():
    training = TrainingConfig(epochs=10, learning_rate=1.0)
    decays = [round(1 / training.learning_rate_at(epoch)) for epoch in range(1, 11)]
    assert decays == [1, 1, 1, 1, 1, 4, 4, 16, 64, 256]


def test_milestones_and_decay_can_be_chosen():
    training = TrainingConfig(epochs=10, learning_rate=1.0, lr_decay=0.1, lr_milestones=(0.3, 1))
    assert [training.learning_rate_at(epoch) for epoch in (3, 4, 10)] == pytest.approx(
        [1, 0.1, 0.1]
    )
    constant = TrainingConfig(epochs=10, learning_rate=1.0, lr_milestones=())
    assert {constant.learning_rate_at(epoch) for epoch in range(1, 11)} == {1.0}


def test_a_milestone_is_not_moved_by_rounding():
    # 0.29 * 100 is 28.999999999999996 in binary
    training = TrainingConfig(epochs=100, lr_milestones=(0.29, 0.57))
    assert part_of(training, "lr_schedule").decay_epochs(training.epochs) == (29, 57)


def test_the_first_epoch_is_trained_at_the_full_rate():
    # one epoch, or a milestone below 1 / epochs: a decay comes after an epoch, never before all
    for epochs in (1, 2, 3, 10):
        assert TrainingConfig(epochs=epochs, learning_rate=1.0).learning_rate_at(1) == 1.0


@pytest.mark.parametrize(
    ("pruning", "said"),
    [
        ({"kind": "percentile"}, "kind percentile needs percentile, as 75, but got none"),
        ({"percentile": 30}, "percentile must be left out unless kind is percentile, but got 30"),
        ({"kind": "percentile", "percentile": 100}, "percentile .*less than 100, but got 100"),
    ],
)
def test_percentile_belongs_to_its_kind(pruning, said):
    with pytest.raises(ConfigError, match=f"study.toml: pruning.*{said}") as error:
        study(pruning=pruning)
    assert "\n" not in str(error.value)
    kept = study(pruning={"kind": "percentile", "percentile": 30}).pruning
    assert (kept.kind, kept.percentile) == ("percentile", 30)


def test_a_section_has_a_hash_though_it_has_tables_of_options():
    one, same = (NetworkConfig(head_options={"sizes": [1, {"a": 2}]}) for _ in range(2))
    assert hash(one) == hash(same)
    assert hash(NetworkConfig()) != hash(one)
