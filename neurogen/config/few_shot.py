"""Classes that are shown by samples, beside those that are named: what the zoo learns for that, and what is tested."""

from __future__ import annotations

from dataclasses import dataclass, field

from neurogen.config.limits import POSITIVE
from neurogen.config.task import DatasetConfig


@dataclass
class EpisodesConfig:
    """What a network of the zoo sees in every update beside a batch of its own data."""

    ways: int = field(metadata=POSITIVE)  # classes
    shots: list[int]  # [fewest,most] samples of each, of which its row is made
    queries: int = field(metadata=POSITIVE)  # further samples of each, which must be recognised


@dataclass
class FewShotConfig:
    """Two datasets without names, of images like those of the experiment's own."""

    data: DatasetConfig  # many classes: from them the zoo learns to tell any classes apart
    episodes: EpisodesConfig
    test: DatasetConfig  # classes that no training sees; the evaluation shows samples of them
    test_shots: list[int]  # how many of each
