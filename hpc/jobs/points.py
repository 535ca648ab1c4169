"""The composed configs of a sweep's points, without composing each one by itself.

in:  Hydra's config loader, and the overrides of every point
out: the configs that Hydra would compose, as plain values with every ${…} replaced

Hydra reads and merges all files for every point, which takes a tenth of a second each, and OmegaConf takes a hundredth
to copy a config or to replace what is in it. Most points of a large sweep differ only in the values of a few keys. So
every choice of files is composed once, and of points that set the same keys only the first is copied and resolved as a
whole. For the others the keys whose values differ are set anew, and what refers to them is replaced anew.
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import compress, permutations
from typing import Any, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import Container, DictConfig, ListConfig, OmegaConf
from omegaconf._utils import split_key
from omegaconf.errors import OmegaConfBaseException

Path = tuple[Any, ...]  # keys and indices from the root on
MISSING = "???"  # OmegaConf's mark of a value that has to be given


def compose(loader: ConfigLoader, sweep: DictConfig, points: Sequence[Sequence[str]]) -> list[Mapping[str, Any]]:
    """The config of every point without its section hydra; `sweep` is what Hydra composed for the whole command.

    Points may share parts, so nobody may change them. Where ${…} cannot be replaced, or a value is missing, the point
    is a DictConfig as Hydra composes it: who reads it finds out what is wrong. Raises HydraException as
    `loader.load_sweep_config` does.
    """

    parser = OverridesParser.create(config_loader=loader)
    repository = cast(ConfigLoaderImpl, loader).repository  # the loader itself copies it for every question

    @cache
    def override_of(word: str) -> Override:
        return parser.parse_overrides([word])[0]

    @cache
    def is_choice(word: str) -> bool:
        override = override_of(word)
        return override.package is not None or bool(repository.get_group_options(override.key_or_group))

    @cache
    def composed(choices: tuple[str, ...]) -> DictConfig:
        whole: Any = loader.load_sweep_config(sweep, list(choices))
        config: DictConfig = OmegaConf.masked_copy(whole, [key for key in whole if key != "hydra"])
        OmegaConf.set_struct(config, True)
        return config

    words_of = [[word for word in words if not override_of(word).is_hydra_override()] for words in points]
    choices_of = [tuple(filter(is_choice, words)) for words in words_of]
    values_of = [[override_of(word) for word in words if not is_choice(word)] for words in words_of]
    alike: dict[tuple[Any, ...], list[list[Override]]] = defaultdict(list)
    for choices, values in zip(choices_of, values_of, strict=True):
        alike[choices, keys_of(values)].append(values)

    @cache
    def points_alike(choices: tuple[str, ...], keys: tuple[str, ...]) -> PointsAlike:
        return PointsAlike(composed(choices), alike[choices, keys])

    configs = []
    for choices, values in zip(choices_of, values_of, strict=True):
        if all(map(sets_anew, values)) and are_apart(keys_of(values)):
            configs.append(points_alike(choices, keys_of(values)).config(values))
        else:
            configs.append(with_values(composed(choices), values))
    return configs


def keys_of(values: Sequence[Override]) -> tuple[str, ...]:
    """The keys that these overrides set."""
    return tuple(override.key_or_group for override in values)


def sets_anew(override: Override) -> bool:
    """Whether nothing of what was at the key before is left: KEY=VALUE, but for a dictionary, which is merged."""
    plain = not (override.is_add() or override.is_force_add() or override.is_delete())
    return plain and not isinstance(override.value(), dict)


@cache
def are_apart(keys: tuple[str, ...]) -> bool:
    """Whether no key is a part of another, so that their order does not matter."""
    return not any(f"{longer}.".startswith(f"{key}.") for key, longer in permutations(keys, 2))


def with_values(base: DictConfig, values: Sequence[Override]) -> Mapping[str, Any]:
    """A copy of a config with these overrides, resolved where that is possible."""
    config = copy.deepcopy(base)
    ConfigLoaderImpl._apply_overrides_to_config(list(values), config)
    try:
        resolved: Mapping[str, Any] = plain(config)
    except OmegaConfBaseException:
        return config
    return resolved if is_settled(resolved) else config


class PointsAlike:
    """Points with the same choices of files that set the same keys."""

    def __init__(self, base: DictConfig, values_of_points: Sequence[Sequence[Override]]) -> None:
        self.base = base
        columns = zip(*values_of_points, strict=True)
        self.varying = [len({override.input_line for override in column}) > 1 for column in columns]
        self.latest = copy.deepcopy(base)  # with the values of one point; the next one sets anew what differs
        self.resolved: Mapping[str, Any] | None = None  # of the first point
        self.changing: list[Path] = []  # where other points may differ from it

    def config(self, values: Sequence[Override]) -> Mapping[str, Any]:
        """The config of the next point, which has these values at the keys."""
        is_first = self.resolved is None
        anew = values if is_first else list(compress(values, self.varying))
        ConfigLoaderImpl._apply_overrides_to_config(list(anew), self.latest)
        try:
            if self.resolved is None:
                self.resolved = plain(self.latest)
                keys = [tuple(split_key(key)) for key in compress(keys_of(values), self.varying)]
                self.changing = [*keys, *referring(dict(interpolated(self.latest)), keys)]
            resolved = with_parts(self.resolved, {path: plain(at(self.latest, path)) for path in self.changing})
        except OmegaConfBaseException:
            return with_values(self.base, values)
        return resolved if is_settled(resolved) else with_values(self.base, values)


def interpolated(node: DictConfig | ListConfig, within: Path = ()) -> Iterator[tuple[Path, str]]:
    """Where values with ${…} stand, and their text."""
    texts: Any = OmegaConf.to_container(node, resolve=False)
    for name in list(node) if isinstance(node, DictConfig) else range(len(node)):
        if OmegaConf.is_interpolation(node, name):
            yield (*within, name), texts[name]
        elif isinstance(inner := node[name], DictConfig | ListConfig):
            yield from interpolated(inner, (*within, name))


def referring(texts: Mapping[Path, str], keys: Sequence[Path]) -> list[Path]:
    """The texts with ${…} that may refer to one of these keys, by themselves or through others: those that have a word
    of it in common."""
    words = {str(name) for key in keys for name in key}
    while True:
        paths = [path for path, text in texts.items() if words & set(re.findall(r"\w+", text))]
        more = {str(name) for path in paths for name in path} - words
        if not more:
            return paths
        words |= more


def at(node: Any, path: Path) -> Any:
    """The value at a path, with ${…} replaced."""
    for name in path:
        node = node[int(name) if isinstance(node, ListConfig) else name]
    return node


def plain(value: Any) -> Any:
    """A value without OmegaConf's types. Raises OmegaConfBaseException for what cannot be replaced or is missing."""
    is_container = isinstance(value, Container)
    return OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if is_container else value


def with_parts(config: Mapping[str, Any], parts: Mapping[Path, Any]) -> Mapping[str, Any]:
    """A copy of plain values with other parts; it shares all that lies on none of the paths to them."""
    changed = dict(config)
    for path, part in parts.items():
        node: Any = changed
        for name in path[:-1]:
            key = int(name) if isinstance(node, list) else name
            node[key] = copy.copy(node[key])
            node = node[key]
        node[int(path[-1]) if isinstance(node, list) else path[-1]] = part
    return changed


def is_settled(value: Any) -> bool:
    """Whether OmegaConf would read these plain values as what they are: it takes a text with ${ for a reference."""
    if isinstance(value, dict):
        return all(map(is_settled, value.values()))
    if isinstance(value, list):
        return all(map(is_settled, value))
    return not (isinstance(value, str) and ("${" in value or value == MISSING))
