"""Hydra's sweeper of studies: the points and variants that a file of conf/study lists, crossed with what is swept.

in:  hydra.sweeper of the composed study, and the overrides of the command line
out: the overrides of every experiment, for the launcher

Without points and variants it is Hydra's own sweeper.
"""

# Annotations are no strings here: Hydra may run this file without a name in sys.modules, and dataclasses look there for
# what a string means.

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from neurogen.arguments import with_members
from neurogen.errors import UserError
from neurogen.overrides import require_readable

WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|[^\s'"])+""")  # up to a blank that is not inside quotes


@dataclass
class OnlyConf:
    """Which of a study's points and variants to run, by name; null: all."""

    points: list[str] | None = None
    variants: list[str] | None = None


@dataclass
class StudySweeperConf(BasicSweeperConf):
    """What a study may set below hydra.sweeper, beside Hydra's own `params`."""

    _target_: str = "hydra_plugins.neurogen_sweeper.StudySweeper"
    points: dict[str, Any] = field(default_factory=dict)  # name → overrides, as one line or as a list
    variants: dict[str, Any] = field(default_factory=dict)  # the same; `variant` is the name unless they set it
    only: OnlyConf = field(default_factory=OnlyConf)


ConfigStore.instance().store(group="hydra/sweeper", name="study", node=StudySweeperConf, provider="neurogen")


class StudySweeper(BasicSweeper):
    """points × variants × params × swept overrides. Where two set the same key, the last of these wins."""

    def __init__(
        self,
        points: Mapping[str, Any],
        variants: Mapping[str, Any],
        only: Mapping[str, Any],
        max_batch_size: int | None = None,
        params: dict[str, str] | None = None,
    ) -> None:
        super().__init__(max_batch_size, params)
        self.points, self.variants, self.only = points, variants, only

    def split_arguments(self, overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """Batches of experiments, each a list of overrides.

        Raises HydraException for a name that the study does not have, and for what are no overrides.
        """
        for override in overrides:
            if override.is_sweep_override() and not override.is_discrete_sweep():
                raise HydraException(f"{override.input_line} lists no values; give them: KEY=A,B or range(START,STOP)")
            if override.is_sweep_override() and not list(override.sweep_iterator()):
                raise HydraException(f"{override.input_line} has no value at all; give at least one: KEY=A,B")
        (swept,) = super().split_arguments(overrides, None)
        points = [
            self._overrides("point", name, given)
            for name, given in chosen("point", self.points, self.only["points"]).items()
        ]
        variants = [
            {"variant": f"variant={quoted(name)}"} | self._overrides("variant", name, given)
            for name, given in chosen("variant", self.variants, self.only["variants"]).items()
        ]
        experiments = [
            list((point | variant | by_key(words)).values())
            for point, variant, words in itertools.product(points or [{}], variants or [{}], swept)
        ]
        return list(self.split_overrides_to_chunks(experiments, max_batch_size))

    def _parse_config(self) -> list[str]:
        return with_members(super()._parse_config())

    def _overrides(self, kind: str, name: str, given: Any) -> dict[str, str]:
        """The overrides of a point or a variant, by their keys."""
        assert self.hydra_context is not None
        words = with_members(WORD.findall(given) if isinstance(given, str) else [str(word) for word in given])
        try:
            require_readable(words, {}, is_sweep=True, typed=repr)
        except UserError as error:
            raise UserError(f"{kind} {name}: {error}") from error
        parsed = OverridesParser.create(self.hydra_context.config_loader).parse_overrides(words)
        for override in parsed:
            if override.is_sweep_override():
                raise HydraException(
                    f"{kind} {name}: {override.input_line} has several values; list several {kind}s, or sweep in params"
                )
        return {override.get_key_element(): str(override.input_line) for override in parsed}

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """A launcher with a plan composes every point before it submits the first, so once is enough."""
        if getattr(self.launcher, "plan", None) is None:
            super().validate_batch_is_legal(batch)


def chosen(kind: str, members: Mapping[str, Any], names: Sequence[str] | None) -> dict[str, Any]:
    """The members with these names (None: all). Raises HydraException for a name that is not among them."""
    if names is None:
        return dict(members)
    for name in names:
        if not members:
            raise HydraException(f"{kind}={name} is given without a study that lists its {kind}s; add +study=NAME")
        if name not in members:
            raise HydraException(f"{kind}={name} is no {kind} of this study; allowed: {', '.join(members)}")
    return {name: members[name] for name in names}


def by_key(words: Sequence[str]) -> dict[str, str]:
    """Overrides of the form KEY=VALUE by their keys."""
    return {word.split("=", 1)[0]: word for word in words}


def quoted(text: str) -> str:
    """The text as a value in an override."""
    return QuotedString(text, Quote.single).with_quotes()
