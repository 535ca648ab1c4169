"""The composed configs of a sweep's points, without composing each one by itself.

in:  Hydra's config loader, and the overrides of every point
out: the same configs that Hydra would compose

Hydra reads and merges all files for every point, which takes a tenth of a second each. Most points of a large sweep
differ only in values, so here every choice of files is composed once, and values are set on copies of it.
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
    """The config of every point without its section hydra; `sweep` is what Hydra composed for the whole command.

    Raises HydraException as `loader.load_sweep_config` does.
    """

    @cache
    def is_group(key: str) -> bool:
        return bool(loader.get_group_options(key))

    @cache
    def composed(choices: tuple[str, ...]) -> DictConfig:
        whole: Any = loader.load_sweep_config(sweep, list(choices))
        config: DictConfig = OmegaConf.masked_copy(whole, [key for key in whole if key != "hydra"])
        OmegaConf.set_struct(config, True)
        return config

    parser = OverridesParser.create(config_loader=loader)
    configs = []
    for words in points:
        parsed = [override for override in parser.parse_overrides(list(words)) if not override.is_hydra_override()]
        choices = [override for override in parsed if override.package is not None or is_group(override.key_or_group)]
        values = [override for override in parsed if override not in choices]
        config = copy.deepcopy(composed(tuple(str(override.input_line) for override in choices)))
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        configs.append(config)
    return configs
