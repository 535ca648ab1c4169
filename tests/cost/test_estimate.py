"""What dry_run=true says, against what is counted when the same step is really run, and against published figures."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from neurogen.cost.estimate import Estimate, bytes_per_trained, estimate
from neurogen.cost.reading import raw_size_of, size_of
from neurogen.data.dataset import load_images
from neurogen.generator.backbone import VisionBackbone
from neurogen.generator.context import Context
from neurogen.generator.folder import build_generator
from neurogen.generator.losses import tuning_loss
from neurogen.generator.prompts import Prompt
from neurogen.generator.task import Task
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.runtime import Runtime
from tests.conftest import Composed, Program, error_line, tiny
from tests.generator.test_batches import generator_for

pytestmark = pytest.mark.xdist_group("estimates")  # in one process, which makes each of them once


@cache
def estimated(*overrides: str) -> Estimate:
    """The estimate of the tiny experiment with these changes."""
    return estimate(tiny(Path("runs"), *overrides))


MNIST = ("dataset=mnist", "target=lenet")
AGAIN = "backbone.gradient_checkpointing=true"


@pytest.mark.parametrize(
    ("backbone", "published"),
    [("llama3_8b", 8_030_261_248), ("qwen2_vl_7b", 8_291_375_616), ("smollm2_135m", 134_515_008)],
)
def test_parameter_counts_are_the_published_ones(backbone: str, published: int) -> None:
    assert estimated(*MNIST, f"backbone={backbone}").published_parameters == published


@pytest.mark.parametrize("backbone", ["tiny_llama", "tiny_qwen2_vl"])
def test_flops_and_tokens_of_a_step_are_those_of_the_real_step(
    experiment: Composed, runtime: Runtime, backbone: str
) -> None:
    # the counter knows no fused attention on a CPU
    point = experiment(f"backbone={backbone}", "backbone.attention=eager")
    dataset = load_images(point.dataset)
    network = build_network(point.target, dataset.shape)
    task = Task.of(dataset, point.dataset, point.target, Scale.of_fan_in(ParameterLayout.of(network), None))
    generator = build_generator(point.backbone, point.generator, [task], 0, runtime)
    assert isinstance(generator.backbone, VisionBackbone) is (backbone == "tiny_qwen2_vl")
    batch = torch.arange(point.recipe.tune.batch_size)
    context = Context.of(dataset.train, dataset.class_names, batch[: point.generator.context_samples])
    with FlopCounterMode(display=False) as counter:
        (z,) = generator(task.name, [Prompt(task.instruction, context)])
        tensors = generator.decode(task.name, z)
        tuning_loss(network, tensors, dataset.train.inputs(batch), dataset.train.labels[batch]).backward()
    stage = estimate(point, torch.float32).tune
    assert stage.tokens_per_step == generator.backbone.num_tokens_read
    assert stage.flops_per_step == pytest.approx(counter.get_total_flops(), rel=0.05)


@pytest.mark.parametrize("words", [[], ["generator.latent=2"], ["generator.tokens=composed"]])
def test_everything_that_is_trained_is_counted(experiment: Composed, runtime: Runtime, words: list[str]) -> None:
    point = experiment(*words)
    generator, _ = generator_for(point, runtime)
    counted = sum(value.numel() for value in generator.trainables.values())
    assert estimate(point, torch.float32).trained_parameters.total == counted


def test_flops_are_near_the_rule_of_thumb() -> None:
    """Forward 2 per weight and token, back through frozen weights 2 more; the rest is LoRA, attention, projection."""
    cost = estimated(*MNIST, "backbone=llama3_8b")
    embedding = 128_256 * 4096
    stage = cost.inject
    rule = 4 * (cost.backbone_parameters - embedding) * stage.tokens_per_step
    assert rule < stage.flops_per_step < 1.1 * rule


def test_memory_counts_weights_trained_values_and_what_autograd_keeps(experiment: Composed) -> None:
    cost = estimated(*MNIST, "backbone=llama3_8b")
    assert cost.weight_bytes == 2 * cost.backbone_parameters
    assert cost.trained_bytes == 16 * cost.trained_parameters.total
    assert bytes_per_trained(experiment("recipe.tune.optimizer=sgd").recipe.tune) == 8
    assert bytes_per_trained(experiment("recipe.tune.keep=best").recipe.tune) == 20
    kept = cost.tune.activation_bytes(contexts=1)
    layer = cost.tune.tokens_per_step * 2 * (2 * 4096 + 3 * 14336)  # some of what a layer keeps
    assert 32 * layer < kept < 32 * 6 * layer
    assert cost.peak_bytes == pytest.approx(cost.weight_bytes + cost.trained_bytes + kept, rel=0.01)


@pytest.mark.parametrize(
    ("dataset", "steps"),
    [
        ("sst2", 20 * -(-round(67_349 * 0.9) // 512)),
        ("snli", 20 * -(-549_367 // 512)),
        ("sst2 dataset.limit=1000", 20 * -(-900 // 512)),
    ],
)
def test_steps_follow_the_size_of_the_data(dataset: str, steps: int) -> None:
    paper = [
        *f"dataset={dataset} target=mlp recipe=paper dataset.text.embedding_dim=16".split(),
        "recipe.inject.steps=null", "recipe.tune.steps=null", "recipe.tune.batch_size=512",
    ]  # fmt: skip
    assert estimated(*paper).tune.steps == steps


@pytest.mark.parametrize("words", ["dataset=digits target=cnn_small", "dataset=mnist5k target=lenet"])
def test_the_sizes_that_are_written_down_are_those_of_the_data(words: str) -> None:
    written = tiny(Path("runs"), *words.split(), "dataset.limit=null").dataset
    size, (counted, class_names) = size_of(written), raw_size_of(replace(written, size=None))
    assert round(size.num_train * (1 - written.validation_fraction)) == pytest.approx(counted.num_train, abs=10)
    assert (size.num_classes, size.image) == (len(class_names), counted.image)


def test_texts_on_a_backbone_that_sees() -> None:
    cost = estimated("dataset=sst2", "target=mlp", "backbone=tiny_qwen2_vl", "dataset.text.embedding_dim=16")
    assert cost.tune.flops_per_step > 0


def test_checkpointing_trades_time_for_memory() -> None:
    plain = estimated(*MNIST, "backbone=llama3_8b")
    checkpointed = estimated(*MNIST, "backbone=llama3_8b", AGAIN)
    assert checkpointed.tune.context_bytes < 0.1 * plain.tune.context_bytes
    assert checkpointed.tune.flops_per_step == 1.5 * plain.tune.flops_per_step
    # an H200 took 2.0 to 2.2 times as long, for launches
    assert checkpointed.tune.seconds(1) == pytest.approx(2.1 * plain.tune.seconds(1))


def test_checkpointing_does_not_spare_what_the_target_network_keeps() -> None:
    few, many = (
        estimated("dataset=cifar10", "target=resnet20", "backbone=llama3_8b", f"recipe.tune.batch_size={size}", AGAIN)
        for size in (128, 512)
    )
    # a feature map of 16×32×32 float32 is 64 KiB, and every image has several of each layer
    assert many.tune.context_bytes - few.tune.context_bytes > 384 * 19 * 2**16
    assert many.inject.context_bytes == few.inject.context_bytes


def test_contexts_cost_what_their_batches_cost() -> None:
    """A batch takes the time of its launches until arithmetic takes longer, and the memory of all its contexts."""
    stage = estimated(*MNIST, "backbone=llama3_8b", "gpu=h200", "batch_tokens=2048").tune
    assert stage.contexts_at_once == 2048 // stage.tokens_per_step >= 8
    assert stage.seconds(1) == stage.seconds(8) == stage.least_seconds == pytest.approx(32 * 6.3e-3)
    many = stage.contexts_at_once
    assert stage.seconds(2 * many + 1) == 2 * stage.seconds(many) + stage.seconds(1)
    assert stage.num_batches(2 * many + 1) == 3
    assert stage.activation_bytes(2 * many) == many * stage.activation_bytes(1)
    small = estimated(*MNIST, "backbone=llama3_8b", "batch_tokens=1").tune
    assert small.contexts_at_once == 1
    assert small.seconds(8) == 8 * small.seconds(1)


def test_blocks_are_launched_one_by_one_and_again_on_the_way_back() -> None:
    """The small CNN takes 83 tokens of the tiny backbone, three blocks of 32."""
    start = 2 * 6.3e-3  # of its two layers
    whole, cut = (estimated("gpu=h200", f"generator.block_tokens={size}").tune for size in (128, 32))
    assert whole.tokens_per_step == cut.tokens_per_step
    assert whole.seconds(3) == pytest.approx(start)
    assert cut.seconds(1) == pytest.approx(start * (1 + 3 * 2.1))
    assert cut.seconds(3) == pytest.approx(start * (1 + 3 * 3 * 2.1))


def test_lists_are_read_beside_the_tokens_of_the_inner_layers() -> None:
    listing, plain = (estimated(*words, "gpu=h200").tune for words in (("preset=named", "dataset.ways=[2,4]"), ()))
    assert listing.seconds(1) == pytest.approx(2 * plain.seconds(1))


def test_the_layers_that_see_are_launched_too() -> None:
    """Measured on an H200: a step of Qwen2-VL-7B takes 1.7 times the pass of its language model alone."""
    seeing, blind = (
        estimated(*MNIST, "backbone=qwen2_vl_7b", f"backbone.vision={vision}").tune.seconds(1)
        for vision in ("true", "false")
    )
    assert seeing == pytest.approx(blind * (28 + 0.5 * 32) / 28)


def test_a_dry_run_runs_nothing_and_says_what_it_would_cost(program: Program, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """The paper's largest cells, without a network, data or a GPU."""
    process = program("run", "dataset=snli", "target=rnn", "backbone=llama3_8b", "recipe=paper", "dry_run=true")
    assert process.returncode == 0, process.stderr
    for word in (
        "8,030,261,248",
        "12,611 parameters",
        "NVIDIA A100 80GB",
        "fits into 80 GB",
        "GPU-hours",
        "In all",
        "estimate (1)",
    ):
        assert word in " ".join(process.stdout.split()), process.stdout
    assert not (tmp_path / "runs").exists()
    refused = program("run", "dataset=snli", "backbone=llama3_8b", "backbone.vision=true", "dry_run=true")
    assert "reads text only" in error_line(refused)


def test_in_blocks_a_context_costs_no_more_than_its_tokens() -> None:
    """FLOPs of a context grow as its tokens do, and what is kept of it by less."""
    targets = ("cnn_small", "cnn")  # 5,130 and 23,946 values
    small, large = (estimated(*MNIST, f"target={name}", "generator.block_tokens=64").inject for name in targets)
    growth = large.tokens_per_step / small.tokens_per_step
    assert large.flops_per_step / small.flops_per_step == pytest.approx(growth, rel=0.25)
    assert large.context_bytes < 1.2 * small.context_bytes
    assert large.context_bytes < 0.5 * estimated(*MNIST, "target=cnn").inject.context_bytes
