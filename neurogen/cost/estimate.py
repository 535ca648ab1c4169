"""What an experiment will cost, before anyone waits in a queue: parameters, memory, FLOPs, hours on one GPU.

One training step is run on torch's meta device, where tensors have shapes and no values: torch's FLOP counter counts
it, and what autograd keeps for the way back is summed. So an estimate follows whatever the step itself does. Left
out are the vision encoder's activations (it is frozen, nothing of it is kept) and everything that the target costs
outside of the two stages.

A step takes the longest of three: FLOPs / (utilisation · peak); reading the weights twice, there and back; and what
Python needs to start the kernels of all layers. With few tokens a step, the last two decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from neurogen.config import BackboneConfig, DatasetConfig, Experiment, SizeConfig, StageConfig, TargetConfig
from neurogen.data.dataset import load_raw
from neurogen.data.preparation import DataShape, ImageShape, Normalisation, TextShape, TokenEmbedding
from neurogen.errors import UserError
from neurogen.generator.backbone import Backbone, VisionBackbone, opening_of, with_lora
from neurogen.generator.generator import Generator
from neurogen.generator.losses import ZooMoments, injection_loss, tuning_loss
from neurogen.generator.parts import Embeddings
from neurogen.generator.patches import PATCHES_PER_SIDE
from neurogen.generator.pretrained import Pretrained, architecture_of, load_tokenizer, require_sight
from neurogen.generator.task import Task
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.loop import steps_of

META = torch.device("meta")
CAUSAL = "causal_shapes"
CHARACTERS_PER_TOKEN = 4  # where the tokenizer is not at hand


@dataclass(frozen=True)
class StageCost:
    """One stage on one GPU."""

    steps: int
    tokens_per_step: int
    flops_per_step: int
    activation_bytes: int
    seconds_per_step: float

    @property
    def hours(self) -> float:
        return self.steps * self.seconds_per_step / 3600


@dataclass(frozen=True)
class Estimate:
    published_parameters: int  # with the output layer, which is not used here
    backbone_parameters: int
    trained_parameters: dict[str, int]  # LoRA, parameter tokens, projection, patch embedding
    target_parameters: int
    weight_bytes: int
    trained_bytes: int  # values, gradients and the optimiser's state
    stages: dict[str, StageCost]

    @property
    def peak_bytes(self) -> int:
        return self.weight_bytes + self.trained_bytes + max(stage.activation_bytes for stage in self.stages.values())


PARTS = {
    "LoRA": "lora_",
    "parameter tokens": "parameter_tokens.",
    "projection": "projection.",
    "patch embedding": "patches.",
}


def estimate(experiment: Experiment, dtype: torch.dtype = torch.bfloat16) -> Estimate:
    """Raises UserError where neither the config nor the data say what shape the data has."""
    e, size = experiment, size_of(experiment.dataset)
    backbone = meta_backbone(e.backbone, dtype)
    shape = shape_of(e.dataset, size)
    stage_1 = meta_generator(e, e.source or e.target, backbone, shape)
    generator, task, network = meta_generator(e, e.target, backbone, shape)
    num_train = min(e.dataset.limit or size.num_train, size.num_train)
    if size.validation_is_cut:
        num_train = round(num_train * (1 - e.dataset.validation_fraction))
    batch_size = min(e.recipe.tune.batch_size, num_train)
    trained = {name: value.numel() for name, value in generator.trainables.items()}
    parts = {kind: sum(trained[name] for name in trained if part in name) for kind, part in PARTS.items()}
    epoch = math.ceil(num_train / batch_size)
    return Estimate(
        published_parameters=published(backbone),
        backbone_parameters=sum(value.numel() for value in frozen_of(generator)),
        trained_parameters=parts,
        target_parameters=task.layout.num_parameters,
        weight_bytes=bytes_of(frozen_of(generator)),
        trained_bytes=sum(trained.values()) * max(map(bytes_per_trained, (e.recipe.inject, e.recipe.tune))),
        stages={
            "inject": stage_cost(e, e.recipe.inject, e.zoo.num_networks, *stage_1, 0),
            "tune": stage_cost(e, e.recipe.tune, epoch, generator, task, network, batch_size),
        },
    )


def stage_cost(
    experiment: Experiment,
    stage: StageConfig,
    steps_per_epoch: int,
    generator: Generator,
    task: Task,
    network: nn.Module,
    num_samples: int,
) -> StageCost:
    """Stage 1 (no samples) costs less where it reads the generic instruction alone: this is a step with a context."""
    gpu, backbone, contexts = experiment.gpu, generator.backbone, stage.contexts_per_step
    num_read = tokens_read(experiment, task)
    num_tokens = num_read + sum(generator.groups[task.name])
    flops, saved = one_step(generator, task, network, num_read, num_samples)
    if experiment.backbone.gradient_checkpointing:
        flops, saved = checkpointed(backbone, flops, saved, num_tokens)
    flops += vision_flops(experiment, backbone, task.shape)
    seconds = max(
        flops / (gpu.utilisation * gpu.peak_tflops * 1e12),
        2 * bytes_of(frozen_of(generator)) / (gpu.bandwidth_tb_per_s * 1e12),
        num_layers(backbone) * gpu.ms_per_layer / 1000,
    )
    num_steps = steps_of(stage, steps_per_epoch)
    return StageCost(num_steps, contexts * num_tokens, contexts * flops, saved, contexts * seconds)


def frozen_of(generator: Generator) -> list[nn.Parameter]:
    return [value for value in generator.parameters() if not value.requires_grad]


def bytes_of(values: list[nn.Parameter]) -> int:
    return sum(value.numel() * value.element_size() for value in values)


def bytes_per_trained(stage: StageConfig) -> int:
    """float32 value and gradient; AdamW keeps two moments more, keep=best the best values."""
    return (16 if stage.optimizer == "adamw" else 8) + (4 if stage.keep == "best" else 0)


def meta_backbone(config: BackboneConfig, dtype: torch.dtype) -> Backbone:
    """The backbone with its LoRA, without values."""
    from transformers import AttentionInterface, AutoModel, Qwen2VLImageProcessor
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    # under a name of our own transformers makes no mask, which it would look into, and sdpa is causal without one
    AttentionInterface.register(CAUSAL, sdpa_attention_forward)
    architecture = architecture_of(config)
    require_sight(config, architecture)
    with META:
        model = AutoModel.from_config(architecture, dtype=dtype, attn_implementation=CAUSAL)
        pretrained = Pretrained(model, None, Qwen2VLImageProcessor() if config.vision else None)
        return with_lora(pretrained, replace(config, chat_template=False, gradient_checkpointing=False), 0)


def meta_generator(
    experiment: Experiment, target: TargetConfig, backbone: Backbone, shape: DataShape
) -> tuple[Generator, Task, nn.Module]:
    """A generator of one target, without values."""
    with META:
        network = build_network(target, shape)
        task = meta_task(experiment, target, shape, ParameterLayout.of(network))
        return Generator(backbone, {task.name: task}, experiment.generator, 0), task, network


def meta_task(experiment: Experiment, target: TargetConfig, shape: DataShape, layout: ParameterLayout) -> Task:
    """The task with the shapes of everything and no data."""
    names = tuple(str(number) for number in range(shape.num_classes))
    preparation: Normalisation | TokenEmbedding
    if isinstance(shape, ImageShape):
        preparation = Normalisation(torch.zeros(shape.channels, 1, 1), torch.ones(shape.channels, 1, 1))
    else:
        preparation = TokenEmbedding(torch.empty(1, shape.embedding_dim))
    scale = Scale.of_fan_in(layout, experiment.generator.soft_clip)
    return Task(experiment.dataset, target, names, shape, preparation, "none", scale)


def one_step(generator: Generator, task: Task, network: nn.Module, num_read: int, num_samples: int) -> tuple[int, int]:
    """(FLOPs, bytes kept for the way back) of one generated network: stage 1, or stage 2 where there are samples."""
    saved: dict[int, Tensor] = {}
    own = {value.untyped_storage()._cdata for value in (*generator.parameters(), *generator.buffers())}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            saved[storage] = tensor
        return tensor

    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(keep, lambda tensor: tensor):
        message = Embeddings(torch.empty(num_read, generator.backbone.hidden_size, device=META))
        z: Float[Tensor, " params"] = generator.read_out(task.name, [message, *generator.tokens(task.name)])
        if num_samples:
            length = task.dataset.text.max_tokens if task.dataset.text is not None else 0
            inputs = inputs_of(task.shape, num_samples, length)
            labels = torch.empty(num_samples, dtype=torch.int64, device=META)
            loss = tuning_loss(network, generator.decode(task.name, z), inputs, labels)
        else:
            loss = injection_loss(z, ZooMoments(torch.empty_like(z), torch.empty_like(z)))
        loss.backward()
    return int(counter.get_total_flops()), sum(value.untyped_storage().nbytes() for value in saved.values())


def checkpointed(backbone: Backbone, flops: int, saved: int, num_tokens: int) -> tuple[int, int]:
    """Only what goes into every layer is kept, and one layer at a time computed again: half as many FLOPs more, since
    the way back through frozen weights costs as much as the way there."""
    layers, value = num_layers(backbone), backbone.model.get_input_embeddings().weight.element_size()
    return flops * 3 // 2, layers * num_tokens * backbone.hidden_size * value + saved // layers


def num_layers(backbone: Backbone) -> int:
    return int(backbone.model.get_base_model().config.get_text_config().num_hidden_layers)


def inputs_of(shape: DataShape, num_samples: int, num_tokens: int) -> Tensor:
    if isinstance(shape, ImageShape):
        return torch.empty(num_samples, shape.channels, *shape.size, device=META)
    return torch.empty(num_samples, num_tokens, shape.embedding_dim, device=META)


def size_of(dataset: DatasetConfig) -> SizeConfig:
    """What the config says of a published dataset; else the data is loaded and counted."""
    if dataset.size is not None:
        return dataset.size
    raw = load_raw(dataset)
    image = None if dataset.text is not None else list(raw.train.samples.shape[1:])
    return SizeConfig(len(raw.train), False, len(raw.class_names), image)


def shape_of(dataset: DatasetConfig, size: SizeConfig) -> DataShape:
    if dataset.text is not None:
        return TextShape(dataset.text.embedding_dim, size.num_classes)
    assert size.image is not None
    channels, height, width = size.image
    side = dataset.resize
    return ImageShape(channels, side or height, side or width, size.num_classes)


def tokens_read(experiment: Experiment, task: Task) -> int:
    """Tokens of a stage-2 message: instruction, samples (texts as long as they may be) and labels."""
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
        sample = patches_of(task.shape) // MERGED + 2  # and the marks around an image
    else:
        sample = PATCHES_PER_SIDE**2
    each = count("\n") + sample + count(" = 0")  # classes are not known by name
    return count(opening + task.instruction) + experiment.generator.context_samples * each


MERGED = 4  # patches that Qwen2-VL's encoder makes one token of


def patches_of(shape: DataShape) -> int:
    from transformers import Qwen2VLImageProcessor

    assert isinstance(shape, ImageShape)
    return int(Qwen2VLImageProcessor().get_number_of_image_patches(*shape.size, {}))


def vision_flops(experiment: Experiment, backbone: Backbone, shape: DataShape) -> int:
    """The encoder's forward pass over the context: 2 per weight and patch, and attention among an image's patches."""
    if not isinstance(backbone, VisionBackbone) or not isinstance(shape, ImageShape):
        return 0
    encoder, patches = backbone.base.visual, patches_of(shape)
    merger = sum(value.numel() for value in encoder.merger.parameters())
    rest = sum(value.numel() for value in encoder.parameters()) - merger
    attention = 4 * patches**2 * encoder.config.embed_dim * encoder.config.depth
    each = int(2 * rest * patches + 2 * merger * patches // MERGED + attention)
    return experiment.generator.context_samples * each


def published(backbone: Backbone) -> int:
    """Parameters of the model as it is published, with the output layer that is not used here."""
    config = backbone.model.get_base_model().config
    table = backbone.model.get_input_embeddings().weight.numel()
    frozen = sum(value.numel() for value in backbone.parameters() if not value.requires_grad)
    return frozen + (0 if config.tie_word_embeddings else table)
