"""The method itself: what may depend on what, what is trained, and the two losses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from neurogen.config import Experiment
from neurogen.data.dataset import load_images
from neurogen.generator.context import Context
from neurogen.generator.folder import build_generator
from neurogen.generator.generator import Generator
from neurogen.generator.losses import ZooMoments, injection_loss, tuning_loss
from neurogen.generator.prompts import GENERIC, Prompt
from neurogen.generator.task import Task
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.runtime import Runtime

Composed = Callable[..., Experiment]


def generator_of(experiment: Experiment, runtime: Runtime, *more: Experiment) -> tuple[Generator, list[Context]]:
    tasks, contexts = [], []
    for point in (experiment, *more):
        dataset = load_images(point.dataset)
        scale = Scale.of_fan_in(ParameterLayout.of(build_network(point.target, dataset.shape)), None)
        tasks.append(Task.of(dataset, point.dataset, point.target, scale))
        contexts.append(
            Context.of(dataset.train, dataset.class_names, dataset.train.sample(3, torch.Generator().manual_seed(0)))
        )
    return build_generator(experiment.backbone, experiment.generator, tasks, 0, runtime), contexts


@pytest.mark.parametrize(("order", "depends"), [("context_first", True), ("tokens_first", False)])
def test_only_with_the_context_first_do_parameters_depend_on_it(
    experiment: Composed, runtime: Runtime, order: str, depends: bool
) -> None:
    """Decision on the order: in a causal model [P, e] generates without having seen e."""
    generator, (context,) = generator_of(experiment(f"generator.order={order}"), runtime)
    embedding = generator.backbone.model.get_input_embeddings().weight.requires_grad_()
    generator("digits-cnn_small", [Prompt("any instruction", context)]).square().sum().backward()
    for read in (embedding, *generator.patches.parameters()):  # of the words, and of the images
        assert read.grad is not None
        assert bool(read.grad.any()) is depends


def test_trained_are_tokens_lora_projection_and_patches_only(experiment: Composed, runtime: Runtime) -> None:
    generator, _ = generator_of(experiment(), runtime)
    kinds = {name.split(".")[0] if "lora_" not in name else "lora" for name in generator.trainables}
    assert kinds == {"parameter_tokens", "lora", "projection", "patches"}
    frozen = [name for name, value in generator.named_parameters() if not value.requires_grad]
    assert frozen
    assert all(name.startswith("backbone.model.") for name in frozen)


@pytest.mark.parametrize("projection", ["shared", "per_token", "low_rank"])
def test_every_trainable_gets_a_gradient_in_both_stages(
    experiment: Composed, runtime: Runtime, projection: str
) -> None:
    point = experiment(f"generator.projection={projection}", "generator.projection_hidden=16")
    generator, (context,) = generator_of(point, runtime)
    task = generator.tasks["digits-cnn_small"]
    dataset = load_images(point.dataset)
    inputs, labels = dataset.train.inputs(slice(64)), dataset.train.labels[:64]
    zoo = torch.randn(3, task.layout.num_parameters)
    # LoRA's B starts at zero, so A gets its first gradient only after a step
    optimizer = torch.optim.SGD(generator.trainables.values(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (z,) = generator(task.name, [Prompt(task.instruction, context)])
        tensors = generator.decode(task.name, z)
        loss = injection_loss(z, ZooMoments.of(zoo)) + tuning_loss(task.network(), tensors, inputs, labels)
        loss.backward()
        optimizer.step()
    without = [name for name, value in generator.trainables.items() if value.grad is None or not value.grad.any()]
    assert without == []


def test_the_shared_projection_does_not_grow_with_the_target(experiment: Composed, runtime: Runtime) -> None:
    def size(options: str) -> int:
        generator, _ = generator_of(experiment(f"target.options.channels={options}"), runtime)
        return sum(value.numel() for value in generator.projection.parameters())

    assert size("[4,8]") == size("[32,64]")


def test_one_generator_serves_several_tasks(experiment: Composed, runtime: Runtime) -> None:
    """Different layouts and image sizes side by side; one backbone, one head."""
    generator, contexts = generator_of(experiment(), runtime, experiment("dataset=mnist5k", "target=lenet"))
    for name, context in zip(("digits-cnn_small", "mnist5k-lenet"), contexts, strict=True):
        task = generator.tasks[name]
        tensors = generator.decode(name, generator(name, [Prompt(task.instruction, context)])[0])
        assert {key: tuple(value.shape) for key, value in tensors.items()} == {
            key: tuple(value.shape) for key, value in task.network().named_parameters()
        }


def test_the_injection_loss_is_the_mean_over_the_zoo() -> None:
    """eq. 1 against its sum written out, value and gradient."""
    generator = torch.Generator().manual_seed(0)
    zoo = torch.randn(7, 40, generator=generator, dtype=torch.float64)
    z = torch.randn(40, generator=generator, dtype=torch.float64, requires_grad=True)
    naive = torch.stack([nn.functional.mse_loss(z, network) for network in zoo]).mean()
    (expected,) = torch.autograd.grad(naive, z)
    ours = injection_loss(z, ZooMoments.of(zoo))
    (gradient,) = torch.autograd.grad(ours, z)
    torch.testing.assert_close(ours, naive, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-14)


def test_the_tuning_loss_is_the_cross_entropy_of_the_network_itself() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x, y = torch.randn(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1])
    ours = tuning_loss(network, dict(network.named_parameters()), x, y)
    assert torch.equal(ours, nn.functional.cross_entropy(network(x), y))


def test_the_instruction_alone_is_enough(experiment: Composed, runtime: Runtime) -> None:
    """Stage 1 of the paper reads no data."""
    generator, _ = generator_of(experiment(), runtime)
    (z,) = generator("digits-cnn_small", [Prompt(GENERIC, None)])
    assert z.shape == (generator.tasks["digits-cnn_small"].layout.num_parameters,)
    assert z.isfinite().all()
