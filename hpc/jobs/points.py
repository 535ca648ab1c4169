"""The points of a sweep, composed: every choice of files once, and values set on copies of it.

Hydra reads and merges all files for every point, which takes a tenth of a second each; most points of a large sweep
differ in values alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf


def compose(loader: ConfigLoader, sweep: DictConfig, points: Sequence[Sequence[str]]) -> list[DictConfig]:
    """The config of every point without its section hydra; `sweep` is what Hydra composed for the whole.

    Raises HydraException as `loader.load_sweep_config` does.
    """

    @cache
    def is_group(key: str) -> bool:
        return bool(loader.get_group_options(key))

    @cache
    def chosen(choices: tuple[str, ...]) -> DictConfig:
        whole: Any = loader.load_sweep_config(sweep, list(choices))
        config: DictConfig = OmegaConf.masked_copy(whole, [key for key in whole if key != "hydra"])
        OmegaConf.set_struct(config, True)
        return config

    parser = OverridesParser.create(config_loader=loader)
    configs = []
    for words in points:
        overrides = [one for one in parser.parse_overrides(list(words)) if not one.is_hydra_override()]
        choices = [one for one in overrides if one.package is not None or is_group(one.key_or_group)]
        config = copy.deepcopy(chosen(tuple(str(one.input_line) for one in choices)))
        ConfigLoaderImpl._apply_overrides_to_config([one for one in overrides if one not in choices], config)
        configs.append(config)
    return configs
