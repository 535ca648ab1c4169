"""The vision path: what Qwen2-VL makes of our sequence is what it makes of the same images and text without us."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import Qwen2VLProcessor, Qwen2VLVideoProcessor

from neurogen.config import Experiment
from neurogen.data.dataset import load_images
from neurogen.errors import UserError
from neurogen.generator.backbone import VisionBackbone
from neurogen.generator.context import Context
from neurogen.generator.folder import build_generator, load_generator, save_generator
from neurogen.generator.generator import Generator
from neurogen.generator.loading import load_backbone
from neurogen.generator.parts import Embeddings, Part, Picture, Text
from neurogen.generator.prompts import Prompt
from neurogen.generator.task import Task
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.runtime import Runtime
from tests.copies import META

Composed = Callable[..., Experiment]
INSTRUCTION = "Please help generate parameters of neural networks."


@pytest.fixture
def backbone(experiment: Composed, runtime: Runtime) -> VisionBackbone:
    loaded = load_backbone(experiment("backbone=tiny_qwen2_vl").backbone, runtime, 0)
    assert isinstance(loaded, VisionBackbone)
    return loaded


def pictures(*sizes: tuple[int, int, int]) -> list[Picture]:
    generator = torch.Generator().manual_seed(0)
    return [Picture(torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)) for size in sizes]


def stock(backbone: VisionBackbone, images: list[Picture], labels: list[str]) -> Tensor:
    """The ordinary way: the processor makes tensors of conversation and images, the whole model reads them."""
    processor = Qwen2VLProcessor(
        backbone.image_processor,
        backbone.tokenizer,
        Qwen2VLVideoProcessor(),
        chat_template=backbone.tokenizer.chat_template,
    )
    content = [{"type": "text", "text": INSTRUCTION}]
    for image, label in zip(images, labels, strict=True):
        content += [
            {"type": "text", "text": "\n"},
            {"type": "image", "image": image.pixels},  # type: ignore[dict-item]
            {"type": "text", "text": f" = {label}"},
        ]
    messages = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(messages, tokenize=False).removesuffix("<|im_end|>\n")
    colour = [image.pixels.expand(3, -1, -1) for image in images]
    inputs = processor(text=[text], images=colour or None, return_tensors="pt")
    states: Tensor = backbone.base(**inputs, use_cache=False).last_hidden_state[0]
    return states


def ours(images: list[Picture], labels: list[str]) -> list[Part]:
    parts: list[Part] = [Text(INSTRUCTION)]
    for image, label in zip(images, labels, strict=True):
        parts += [Text("\n"), image, Text(f" = {label}")]
    return parts


@pytest.mark.parametrize("sizes", [[(1, 28, 28), (1, 28, 28)], [(3, 64, 100), (1, 8, 8), (3, 60, 29)], []])
@torch.no_grad()
def test_our_sequence_without_parameter_tokens_is_the_stock_model_s(
    backbone: VisionBackbone, sizes: list[tuple[int, int, int]]
) -> None:
    images, labels = pictures(*sizes), ["7", "cat", "dog"][: len(sizes)]
    (states,) = backbone([backbone.message(ours(images, labels))])
    ours_read = torch.cat(states)
    torch.testing.assert_close(ours_read, stock(backbone, images, labels), rtol=0, atol=0)


@torch.no_grad()
def test_pictures_are_read_without_waiting_for_the_device(backbone: VisionBackbone) -> None:
    """Their sizes and all positions stay on the CPU. On `meta` whatever asks for a value fails."""
    images, backbone = pictures((1, 28, 28), (3, 64, 100)), backbone.to(META)
    sequences = [backbone.message(ours(images, ["7", "cat"])), backbone.message(ours(images[:1], ["7"]))]
    placed = backbone.placed(sequences)
    assert placed.positions is not None
    assert {where.device.type for where in placed.positions} == {"cpu"}
    assert [len(states) for states in backbone(sequences)] == [len(parts) for parts in sequences]


@torch.no_grad()
def test_parameter_tokens_go_on_counting_and_change_nothing_before_them(backbone: VisionBackbone) -> None:
    images, positions = pictures((1, 28, 28)), []
    decode = backbone.decode

    def watched(sequences: list[Tensor], where: list[Tensor]) -> Tensor:
        positions.extend(where)
        return decode(sequences, where)

    backbone.decode = watched  # type: ignore[method-assign,assignment]
    message = backbone.message(ours(images, ["7"]))
    tokens = Embeddings(torch.randn(5, backbone.hidden_size))
    without = torch.cat(backbone([message])[0])
    ((*before, last),) = backbone([[*message, tokens]])
    torch.testing.assert_close(torch.cat(before), without)
    assert last.shape == (5, backbone.hidden_size)
    assert torch.equal(positions[1][..., :-5], positions[0])
    following = int(positions[0].max()) + torch.arange(1, 6)
    assert torch.equal(positions[1][:, -5:], following.expand(3, -1))


def of_task(experiment: Experiment, runtime: Runtime) -> tuple[Generator, Context]:
    dataset = load_images(experiment.dataset)
    scale = Scale.of_fan_in(ParameterLayout.of(build_network(experiment.target, dataset.shape)), None)
    task = Task.of(dataset, experiment.dataset, experiment.target, scale)
    generator = build_generator(experiment.backbone, experiment.generator, [task], 0, runtime)
    return generator, Context.of(
        dataset.train, dataset.class_names, dataset.train.sample(3, torch.Generator().manual_seed(0))
    )


def test_images_reach_the_parameters_through_the_model_s_own_eyes(experiment: Composed, runtime: Runtime) -> None:
    """No patch embedding is trained, the encoder is frozen, and another image gives another network."""
    generator, context = of_task(experiment("backbone=tiny_qwen2_vl"), runtime)
    assert not list(generator.patches.parameters())
    assert not [name for name in generator.trainables if "visual" in name]
    (task,) = generator.tasks
    with torch.no_grad():
        network = generator(task, [Prompt(INSTRUCTION, context)])
        other = generator(task, [Prompt(INSTRUCTION, replace(context, samples=255 - context.samples))])
    assert not torch.allclose(network, other)


def test_a_vision_generator_is_saved_and_loaded(experiment: Composed, runtime: Runtime, tmp_path) -> None:  # type: ignore[no-untyped-def]
    point = experiment("backbone=tiny_qwen2_vl")
    generator, context = of_task(point, runtime)
    save_generator(generator, point.backbone, tmp_path)
    (task,) = generator.tasks
    with torch.no_grad():
        prompts = [Prompt(INSTRUCTION, context)]
        assert torch.equal(load_generator(tmp_path, runtime)(task, prompts), generator(task, prompts))


def test_a_model_without_eyes_is_refused(experiment: Composed, runtime: Runtime) -> None:
    with pytest.raises(UserError, match=r"backbone.vision=true, but tiny_llama \(llama\) reads text only"):
        load_backbone(experiment("backbone.vision=true").backbone, runtime, 0)


def test_with_vision_false_the_same_model_reads_patches(experiment: Composed, runtime: Runtime) -> None:
    generator, context = of_task(experiment("backbone=tiny_qwen2_vl", "backbone.vision=false"), runtime)
    (task,) = generator.tasks
    assert list(generator.patches.parameters())
    assert generator(task, [Prompt(INSTRUCTION, context)]).isfinite().all()
