"""What a generator reads: how much data there is, and how many tokens a stage-2 message has.

in:  an experiment; its data only where the config does not say its size
out: sizes, shapes, numbers of tokens, and the FLOPs of a vision encoder
"""

from __future__ import annotations

import math

from neurogen.config import DatasetConfig, Experiment, SizeConfig
from neurogen.data.dataset import load_raw
from neurogen.data.preparation import DataShape, ImageShape, TextShape
from neurogen.errors import UserError
from neurogen.generator.backbone import Backbone, VisionBackbone, opening_of
from neurogen.generator.patches import PATCHES_PER_SIDE
from neurogen.generator.pretrained import load_tokenizer
from neurogen.generator.task import Task

CHARACTERS_PER_TOKEN = 4  # assumed where the tokenizer is not on this machine
PATCHES_PER_TOKEN = 4  # Qwen2-VL's encoder merges so many patches into one token


def size_of(dataset: DatasetConfig) -> SizeConfig:
    """The size of the data: from the config, or counted in the data itself. Raises UserError as `load_raw` does."""
    return raw_size_of(dataset)[0]


def raw_size_of(dataset: DatasetConfig) -> tuple[SizeConfig, tuple[str, ...]]:
    """`size_of`, and the names of the classes where the data were read."""
    if dataset.size is not None:
        return dataset.size, ()
    raw = load_raw(dataset)
    image = None if dataset.text is not None else list(raw.train.samples.shape[1:])
    return SizeConfig(len(raw.train), False, len(raw.class_names), image), raw.class_names


def shape_of(dataset: DatasetConfig, size: SizeConfig) -> DataShape:
    """The shape of the data after dataset.resize."""
    if dataset.text is not None:
        return TextShape(dataset.text.embedding_dim, size.num_classes)
    assert size.image is not None
    channels, height, width = size.image
    side = dataset.resize
    return ImageShape(channels, side or height, side or width, size.num_classes)


def tokens_read(experiment: Experiment, task: Task, instruction: str | None = None) -> int:
    """Tokens of a stage-2 message: instruction (by default the task's), samples and labels.

    Texts count as long as they may be, and every label as the longest name of a class.
    """
    try:
        tokenizer = load_tokenizer(experiment.backbone, local_files_only=True)
    except UserError:
        tokenizer = None

    def count(text: str) -> int:
        if tokenizer is None:
            return math.ceil(len(text) / CHARACTERS_PER_TOKEN)
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    opening = opening_of(tokenizer) if tokenizer is not None and experiment.backbone.chat_template else ""
    text = experiment.dataset.text
    if text is not None:
        sample = text.max_tokens
    elif experiment.backbone.vision:
        sample = _patches_of(task.shape) // PATCHES_PER_TOKEN + 2  # and the marks around an image
    else:
        sample = PATCHES_PER_SIDE**2
    per_sample = count("\n") + sample + max(count(f" = {name}") for name in task.class_names)
    opened = opening + (task.instruction if instruction is None else instruction)
    return count(opened) + experiment.generator.context_samples * per_sample


def vision_flops(experiment: Experiment, backbone: Backbone, shape: DataShape) -> int:
    """The encoder's forward pass over a context: 2 per weight and patch, and attention among an image's patches."""
    if not isinstance(backbone, VisionBackbone) or not isinstance(shape, ImageShape):
        return 0
    encoder, patches = backbone.base.visual, _patches_of(shape)
    merger = sum(value.numel() for value in encoder.merger.parameters())
    rest = sum(value.numel() for value in encoder.parameters()) - merger
    attention = 4 * patches**2 * encoder.config.embed_dim * encoder.config.depth
    per_image = int(2 * rest * patches + 2 * merger * patches // PATCHES_PER_TOKEN + attention)
    return experiment.generator.context_samples * per_image


def _patches_of(shape: DataShape) -> int:
    from transformers import Qwen2VLImageProcessor

    assert isinstance(shape, ImageShape)
    return int(Qwen2VLImageProcessor().get_number_of_image_patches(*shape.size, {}))
