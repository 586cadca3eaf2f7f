"""The settings that a hierarchy brings along, put where a study has them."""

from typing import TypeVar

from dsaccel.config.study import NetworkConfig, StudyConfig, TrainingConfig
from dsaccel.config.toml import parse_config, set_value
from dsaccel.parts import part_of
from dsaccel.spec.hierarchy import Hierarchy, Value

Part = TypeVar("Part", NetworkConfig, TrainingConfig)


def network_of(hierarchy: Hierarchy, network: NetworkConfig) -> NetworkConfig:
    """`[network]` for a hierarchy: its own settings, else the study's.

    Raises:
        ConfigError: if a setting has a value that no network can have.
    """
    return _replaced(network, hierarchy)


def training_of(hierarchy: Hierarchy, training: TrainingConfig) -> TrainingConfig:
    """`[training]` for a hierarchy, likewise."""
    return _replaced(training, hierarchy)


def learning_rate_of(hierarchy: Hierarchy) -> float | None:
    """The learning rate that a hierarchy brings along.

    Raises:
        ConfigError: if it is none.
    """
    if "learning_rate" not in dict(hierarchy.settings):
        return None
    return training_of(hierarchy, TrainingConfig()).learning_rate


def with_own_settings(hierarchy: Hierarchy, config: StudyConfig) -> Hierarchy:
    """A reference's: of what the study searches, it has what the study itself is set to."""
    searched = config.space.settings
    values: dict[str, Value] = {}
    for name in searched.names:
        table, _, option = name.partition(".")
        if option:
            part = part_of(config.network, "head" if table == "head_options" else "loss")
            values[name] = getattr(part, option)
        else:
            values[name] = getattr(getattr(config, section_of(name)), name)
    if searched.of("granularity_per_stage") and isinstance(values["granularity"], str):
        values["granularity"] = (values["granularity"],) * hierarchy.num_stages
    return hierarchy.with_settings(values | dict(hierarchy.settings))


def section_of(name: str) -> str:
    """The section of a study file that a setting stands in."""
    return "training" if name in TrainingConfig.model_fields else "network"


def _replaced(section: Part, hierarchy: Hierarchy) -> Part:
    model = type(section)
    own = [(n, v) for n, v in hierarchy.settings if n.partition(".")[0] in model.model_fields]
    if not own:
        return section
    tables = section.model_dump(mode="json")
    for name, value in own:
        set_value(tables, name, value)
    return parse_config(model, tables, str(hierarchy))
