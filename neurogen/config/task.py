"""A task: labelled data, and the network that classifies them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from neurogen.config.identity import IF_SET
from neurogen.config.limits import NOT_NEGATIVE, POSITIVE, PROPER_FRACTION


class Modality(StrEnum):
    """What samples are."""

    image = "image"
    text = "text"


class Relabel(StrEnum):
    """Labels that only the context reveals."""

    random = "random"  # every context names the classes in another order


class Duplicates(StrEnum):
    """Training samples that stand in the test split too."""

    drop = "drop"  # no split for training keeps them, and training none of a validation split that the source has
    keep = "keep"


class ReutersTopics(StrEnum):
    """The topics of Reuters-21578 that are told apart, of documents with a single topic."""

    r8 = "r8"  # eight of the ten largest topics
    r52 = "r52"  # all that have a document of their own in both splits


@dataclass
class TextConfig:
    """Which columns of a table are text and label, and how much of a text is read."""

    columns: list[str]  # joined to one text
    join: str  # what stands between the columns
    label: str  # the column of the labels
    class_names: list[str] | None  # labels are these names, or 0, 1, …; null: the source's names, or the labels
    test_split: str  # the split of the hub's dataset that is used as test
    max_tokens: int = field(metadata=POSITIVE)  # longer texts are cut, for targets and contexts
    embedding_dim: int = field(metadata=POSITIVE)  # principal components of the backbone's embedding that targets read


@dataclass
class NamesConfig:
    """What a class may be called. Training reads `train` alone."""

    train: list[str]
    validation: list[str]  # by which a recipe is chosen
    test: list[str]


@dataclass
class PartConfig:
    """One of the datasets of a pool."""

    name: str
    load: str
    path: str | None = field(metadata={"identity": False})


@dataclass
class GlyphsConfig:
    """How many characters are written, and how often."""

    num_classes: int = field(metadata=POSITIVE)
    num_parts: int = field(metadata=NOT_NEGATIVE)  # further classes: a few strokes of a character
    samples_per_class: int = field(metadata=POSITIVE)
    max_strokes: int = field(metadata=POSITIVE)  # more of them run together on 28×28 pixels
    seed: int = field(metadata=NOT_NEGATIVE)


@dataclass
class SizeConfig:
    """What dry_run=true has to know of data that is not there yet."""

    num_train: int
    validation_is_cut: bool  # whether validation is a part of `num_train`, or a split of its own
    num_classes: int
    image: list[int] | None  # channels, height, width


@dataclass
class DatasetConfig:
    """A labelled dataset. `load` names a function (config) → RawSplits; see neurogen/data."""

    name: str  # part of folders' names
    title: str  # what the instruction calls it
    load: str  # a built-in by its short name, or package.module.function
    path: str | None = field(metadata={"identity": False})  # the place of the files, whose content is in the identity
    limit: int | None = field(metadata=POSITIVE)  # training samples to use; validation cut from them is included
    validation_fraction: float = field(metadata=PROPER_FRACTION)  # of the training samples
    split_seed: int = field(metadata=NOT_NEGATIVE)
    resize: int | None = field(default=None, metadata=POSITIVE)  # side of images in pixels; null: as they are
    duplicates: Duplicates = Duplicates.drop
    relabel: Relabel | None = None  # null: labels as they are
    unseen: list[str] = field(default_factory=list)  # classes that only contexts of the evaluation show
    # every context lists so many of the classes, [fewest,most], by name; null: all classes, in their own order
    ways: list[int] | None = field(default=None, metadata={"identity": IF_SET})
    names: dict[str, NamesConfig] = field(default_factory=dict, metadata={"identity": IF_SET})  # by class
    parts: list[PartConfig] = field(default_factory=list, metadata={"identity": IF_SET})  # of load=pool
    text: TextConfig | None = None  # how texts are read; null: the samples are images
    glyphs: GlyphsConfig | None = field(default=None, metadata={"identity": IF_SET})  # of load=glyphs
    topics: ReutersTopics | None = field(default=None, metadata={"identity": IF_SET})  # of load=reuters
    size: SizeConfig | None = field(default=None, metadata={"identity": False})  # null: dry_run=true loads the data
    version: str | None = None  # tells two versions of a loader of your own apart

    def __post_init__(self) -> None:
        """OmegaConf leaves what ${names_of:…} and ${stored_size:} give as it is."""
        self.size = SizeConfig(**self.size) if isinstance(self.size, dict) else self.size
        self.names = {
            key: NamesConfig(**names) if isinstance(names, dict) else names for key, names in self.names.items()
        }

    @property
    def modality(self) -> Modality:
        """What the samples are."""
        return Modality.image if self.text is None else Modality.text

    @property
    def members(self) -> list[DatasetConfig]:
        """The datasets whose files are read: the parts of a pool, or this one alone."""
        parts = [replace(self, name=part.name, load=part.load, path=part.path, parts=[]) for part in self.parts]
        return parts or [self]


@dataclass
class TargetConfig:
    """The architecture f whose parameters are generated. `build` names a function (DataShape, **options) → Module."""

    name: str  # part of folders' names
    title: str  # what the instruction calls it
    modality: Modality  # of the data that it classifies
    build: str  # a built-in by its short name, or package.module.function
    options: dict[str, Any]
    version: str | None = None  # tells two versions of a builder of your own apart


def task_name(dataset: DatasetConfig, target: TargetConfig) -> str:
    """DATASET-TARGET: what a task is called everywhere."""
    return f"{dataset.name}-{target.name}"
