"""What a generator reads: how much data there is, and how many tokens a stage-2 message has.

in:  an experiment; its data only where the config does not say its size
out: sizes, shapes, numbers of tokens, and the FLOPs of a vision encoder
"""

from __future__ import annotations

import math

from neurogen.config import DatasetConfig, Experiment, SizeConfig
from neurogen.data.identity import identity
from neurogen.data.preparation import DataShape, ImageShape, TextShape
from neurogen.data.raw import load_raw
from neurogen.downloads.hub import NotOnHub
from neurogen.generator.backbone import Backbone, VisionBackbone, opening_of
from neurogen.generator.length import PATCHES_PER_TOKEN, most_list_tokens, most_sample_tokens, patches_of
from neurogen.generator.pretrained import load_tokenizer
from neurogen.generator.task import Task

SIZES: dict[tuple[str, str], tuple[SizeConfig, tuple[str, ...]]] = {}  # by a dataset's config and identity
CHARACTERS_PER_TOKEN = 4  # assumed where the tokenizer is not on this machine


def size_of(dataset: DatasetConfig) -> SizeConfig:
    """The size of the data: from the config, or counted in the data itself. Raises UserError as `load_raw` does."""
    return raw_size_of(dataset)[0]


def raw_size_of(dataset: DatasetConfig) -> tuple[SizeConfig, tuple[str, ...]]:
    """`size_of`, and the names of the classes where the data were read.

    The points and steps of a sweep read the same data: a process reads them once, as long as they do not change.
    """
    if dataset.size is not None:
        return dataset.size, ()
    key = repr(dataset), identity(dataset)
    if key not in SIZES:
        raw = load_raw(dataset)
        image = None if dataset.text is not None else list(raw.train.samples.shape[1:])
        SIZES[key] = SizeConfig(len(raw.train), False, len(raw.class_names), image), raw.class_names
    return SIZES[key]


def num_train_of(dataset: DatasetConfig, size: SizeConfig) -> int:
    """How many samples are trained on: without those that are cut off for validation."""
    num_train = min(dataset.limit or size.num_train, size.num_train)
    return round(num_train * (1 - dataset.validation_fraction)) if size.validation_is_cut else num_train


def shape_of(dataset: DatasetConfig, size: SizeConfig) -> DataShape:
    """The shape of the data after dataset.resize."""
    if dataset.text is not None:
        return TextShape(dataset.text.embedding_dim, size.num_classes)
    assert size.image is not None
    channels, height, width = size.image
    side = dataset.resize
    return ImageShape(channels, side or height, side or width, size.num_classes)


def tokens_read(experiment: Experiment, task: Task, instruction: str | None = None) -> int:
    """Tokens of a stage-2 message at most: instruction (by default the task's), samples and labels, listed classes.

    Raises UserError where the tokenizer is on this machine, but broken.
    """
    try:
        tokenizer = load_tokenizer(experiment.backbone, local_files_only=True)
    except NotOnHub:  # it is not on this machine; one that is here and broken is an error
        tokenizer = None

    def count(text: str) -> int:
        if tokenizer is None:
            return math.ceil(len(text) / CHARACTERS_PER_TOKEN)
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    opening = opening_of(tokenizer) if tokenizer is not None and experiment.backbone.chat_template else ""
    opened = opening + (task.instruction if instruction is None else instruction)
    samples = most_sample_tokens(task, experiment.generator.context_samples, experiment.backbone.vision, count)
    return count(opened) + samples + most_list_tokens(task, count)


def vision_layers(backbone: Backbone) -> int:
    """The layers of the vision encoder; 0 where there is none."""
    return int(backbone.base.visual.config.depth) if isinstance(backbone, VisionBackbone) else 0


def vision_flops(experiment: Experiment, backbone: Backbone, shape: DataShape) -> int:
    """The encoder's forward pass over a context: 2 per weight and patch, and attention among an image's patches."""
    if not isinstance(backbone, VisionBackbone) or not isinstance(shape, ImageShape):
        return 0
    encoder, patches = backbone.base.visual, patches_of(shape)
    merger = sum(value.numel() for value in encoder.merger.parameters())
    rest = sum(value.numel() for value in encoder.parameters()) - merger
    attention = 4 * patches**2 * encoder.config.embed_dim * encoder.config.depth
    per_image = int(2 * rest * patches + 2 * merger * patches // PATCHES_PER_TOKEN + attention)
    return experiment.generator.context_samples * per_image
