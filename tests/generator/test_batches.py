"""Several prompts in one batch give what they give one by one: the networks, and the gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from neurogen.config import Experiment
from neurogen.data.dataset import Dataset, Split, load_images
from neurogen.data.preparation import Texts, TokenEmbedding
from neurogen.generator.context import Context
from neurogen.generator.folder import build_generator
from neurogen.generator.generator import Generator
from neurogen.generator.prompts import GENERIC, Prompt
from neurogen.generator.task import Task
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.runtime import Runtime
from tests.conftest import TINY_TEXT

Composed = Callable[..., Experiment]
LENGTHS = (1, 7, 30)  # of texts, in tokens
NETWORKS_ATOL, GRADIENTS_RTOL = 1e-5, 1e-3


def texts(point: Experiment) -> Dataset:
    """Texts of very different lengths, so that the contexts need padding."""
    ids = [[10 + label] * LENGTHS[index % len(LENGTHS)] for index, label in enumerate([0, 1] * 30)]
    labels = torch.tensor([0, 1] * 30)
    split = Split(Texts.of(ids), labels, TokenEmbedding(torch.randn(300, 8)))
    return Dataset.of(point.dataset, ("bad", "good"), split, split, split)


def generator_for(point: Experiment, runtime: Runtime) -> tuple[Generator, Dataset]:
    dataset = texts(point) if point.dataset.text is not None else load_images(point.dataset)
    scale = Scale.of_fan_in(ParameterLayout.of(build_network(point.target, dataset.shape)), None)
    task = Task.of(dataset, point.dataset, point.target, scale)
    generator = build_generator(point.backbone, point.generator, [task], 0, runtime)
    with torch.no_grad():
        for name, value in generator.trainables.items():
            if "lora_B" in name:  # zero at first, and then a half of the gradients is too
                value.copy_(torch.full_like(value, 0.05))
    return generator, dataset


def prompts_for(generator: Generator, dataset: Dataset) -> list[Prompt]:
    """Of different lengths: other instructions, other samples, and no samples."""
    (task,) = generator.tasks.values()
    rng = torch.Generator().manual_seed(0)
    contexts = [Context.sample(dataset.train, dataset.class_names, generator.config, rng) for _ in range(3)]
    return [
        Prompt(GENERIC, None),
        *(Prompt(task.instruction, context) for context in contexts),
        Prompt("", contexts[0]),
        Prompt("A" * 40, contexts[1]),
    ]


def gradients(generator: Generator, losses: Callable[[], list[Tensor]]) -> dict[str, Tensor]:
    generator.zero_grad()
    for loss in losses():
        loss.backward()
    return {name: value.grad.clone() for name, value in generator.trainables.items() if value.grad is not None}


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["generator.order=interleaved", "generator.context_samples=10"],
        ["generator.order=tokens_first", "generator.projection=low_rank"],
        ["backbone=tiny_qwen2_vl"],
        ["backbone.attention=eager"],
        list(TINY_TEXT),
    ],
    ids=["images", "interleaved", "tokens first", "vision", "eager attention", "texts"],
)
def test_a_batch_is_what_its_prompts_are_by_themselves(
    experiment: Composed, runtime: Runtime, overrides: list[str]
) -> None:
    generator, dataset = generator_for(experiment(*overrides), runtime)
    (name,), prompts = generator.tasks, prompts_for(generator, dataset)
    with torch.no_grad():
        singly = torch.cat([generator(name, [prompt]) for prompt in prompts])
        together = generator(name, prompts)
    torch.testing.assert_close(together, singly, rtol=0, atol=NETWORKS_ATOL)
    assert (singly[0] - singly[1]).abs().max() > 100 * NETWORKS_ATOL or generator.config.order == "tokens_first"

    weights = torch.linspace(-1, 1, singly.shape[1])
    of_batch = gradients(generator, lambda: [(generator(name, prompts) * weights).square().sum()])
    of_each = gradients(generator, lambda: [(generator(name, [prompt]) * weights).square().sum() for prompt in prompts])
    assert of_batch.keys() == of_each.keys()
    for key, gradient in of_each.items():
        difference = (of_batch[key] - gradient).norm()
        assert difference <= GRADIENTS_RTOL * gradient.norm(), key


def test_prompts_without_samples_are_read_once(experiment: Composed, runtime: Runtime) -> None:
    generator, _ = generator_for(experiment(), runtime)
    (name,) = generator.tasks
    with torch.no_grad():
        (single,) = generator(name, [Prompt(GENERIC, None)])
        num_tokens = generator.backbone.num_tokens_read
        z = generator(name, [Prompt(GENERIC, None), Prompt("another", None), Prompt(GENERIC, None)])
    assert torch.equal(z[0], z[2])
    torch.testing.assert_close(z[0], single, rtol=0, atol=NETWORKS_ATOL)
    assert not torch.allclose(z[0], z[1])
    assert generator.backbone.num_tokens_read < 3 * num_tokens


@pytest.mark.parametrize(
    "overrides", [[], ["backbone=tiny_qwen2_vl"], list(TINY_TEXT)], ids=["images", "vision", "texts"]
)
def test_no_batch_has_more_tokens_than_allowed(experiment: Composed, runtime: Runtime, overrides: list[str]) -> None:
    generator, dataset = generator_for(experiment(*overrides), runtime)
    (task,) = generator.tasks.values()
    rng = torch.Generator().manual_seed(0)
    longest = generator.longest_sequence(task.name)
    for count in (1, 2, 5):
        assert generator.prompts_at_once(count * longest) == count
        contexts = [Context.sample(dataset.train, dataset.class_names, generator.config, rng) for _ in range(count)]
        before = generator.backbone.num_tokens_read
        with torch.no_grad():
            generator(task.name, [Prompt(task.instruction, context) for context in contexts])
        assert generator.backbone.num_tokens_read - before <= count * longest
    assert generator.prompts_at_once(1) == 1
