"""How many tokens the samples of a context and a list of classes have for the backbone, at most.

in:  a task, and a function that counts the tokens of a text
out: tokens

Texts count as long as they may be, and every label as the longest name of a class.
"""

from __future__ import annotations

from collections.abc import Callable

from neurogen.data.preparation import DataShape, ImageShape
from neurogen.generator.patches import PATCHES_PER_SIDE
from neurogen.generator.prompts import item_of
from neurogen.generator.task import Task

PATCHES_PER_TOKEN = 4  # Qwen2-VL's encoder merges so many patches into one token


def most_sample_tokens(task: Task, context_samples: int, is_vision: bool, count: Callable[[str], int]) -> int:
    """Of all samples of a context with their labels; `is_vision` says that the backbone sees images itself."""
    if task.dataset.text is not None:
        sample = task.dataset.text.max_tokens
    elif is_vision:
        sample = patches_of(task.shape) // PATCHES_PER_TOKEN + 2  # and the marks around an image
    else:
        sample = PATCHES_PER_SIDE**2
    per_sample = count("\n") + sample + max(count(f" = {name}") for name in task.class_names)
    return context_samples * per_sample


def most_list_tokens(task: Task, count: Callable[[str], int]) -> int:
    """Of a list of as many classes as a prompt may list, each by its longest name for training."""
    if task.most_listed is None:
        return 0
    names = [name for names in task.dataset.names.values() for name in names.train]
    return task.most_listed * max(count(item_of(name)) for name in names)


def patches_of(shape: DataShape) -> int:
    """The patches of an image of this shape that Qwen2-VL's encoder reads."""
    from transformers import Qwen2VLImageProcessor

    assert isinstance(shape, ImageShape)
    return int(Qwen2VLImageProcessor().get_number_of_image_patches(*shape.size, {}))
