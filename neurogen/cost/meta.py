"""A generator on torch's meta device, where tensors have shapes and no values.

in:  an experiment and the shape of its data
out: the generator, its task, its target network; the FLOPs of a training step and the bytes that autograd keeps

torch's FLOP counter counts the step itself, so an estimate follows whatever the step does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from neurogen.config import BackboneConfig, Experiment, GpuConfig, TargetConfig
from neurogen.data.preparation import DataShape, ImageShape, Normalisation, TokenEmbedding
from neurogen.generator.backbone import Backbone
from neurogen.generator.blocks import is_split
from neurogen.generator.generator import Generator
from neurogen.generator.loading import with_lora
from neurogen.generator.losses import ZooMoments, injection_loss, tuning_loss
from neurogen.generator.parts import Embeddings, ParameterTokens
from neurogen.generator.pretrained import Pretrained, architecture_of
from neurogen.generator.task import Task
from neurogen.generator.usable import require_fitting
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale

META = torch.device("meta")
CAUSAL = "causal_shapes"  # our name for sdpa attention among transformers' implementations


@dataclass(frozen=True)
class MetaGenerator:
    """A generator of one target without values, and what a training step of it needs."""

    generator: Generator
    task: Task
    network: nn.Module


@dataclass(frozen=True)
class PassCost:
    """The forward and backward pass of one generated network."""

    flops: int
    saved_bytes: int  # what autograd keeps of the generator for the backward pass
    target_bytes: int  # and of the target network and the loss


@dataclass(frozen=True)
class NetworkCost:
    """A target network that is trained by gradient descent."""

    flops_per_sample: int  # forward and backward
    num_layers: int  # those with parameters
    num_train: int  # samples of an epoch

    def seconds_per_epoch(self, batch_size: int, gpu: GpuConfig) -> float:
        """On a GPU, which trains several networks in lockstep: FLOPs, or the time that small kernels take."""
        updates = math.ceil(self.num_train / batch_size)
        flops = self.num_train * self.flops_per_sample / (gpu.utilisation * gpu.peak_tflops * 1e12)
        return max(flops, updates * self.num_layers * gpu.ms_per_target_layer / 1000)


def meta_backbone(config: BackboneConfig, dtype: torch.dtype, attention: str | None = CAUSAL) -> Backbone:
    """The backbone with its LoRA, without values. It can be run with our own attention only; None: transformers'.

    Raises UserError where it is no decoder, cannot see though it must, or lacks the LoRA modules that the config names.
    """
    from transformers import AttentionInterface, AutoModel, Qwen2VLImageProcessor
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    # transformers builds a mask from values for its own implementations; under another name sdpa is causal without one
    AttentionInterface.register(CAUSAL, sdpa_attention_forward)
    architecture = architecture_of(config)
    require_fitting(config, architecture)
    with META:
        model = AutoModel.from_config(architecture, dtype=dtype, attn_implementation=attention)
        pretrained = Pretrained(model, None, Qwen2VLImageProcessor() if config.vision else None)
        return with_lora(pretrained, replace(config, chat_template=False, gradient_checkpointing=False), 0)


def meta_generator(experiment: Experiment, target: TargetConfig, backbone: Backbone, shape: DataShape) -> MetaGenerator:
    """A generator of one target for data of this shape."""
    with META:
        network = build_network(target, shape)
        task = _task(experiment, target, shape, ParameterLayout.of(network))
        return MetaGenerator(Generator(backbone, {task.name: task}, experiment.generator, 0), task, network)


def _task(experiment: Experiment, target: TargetConfig, shape: DataShape, layout: ParameterLayout) -> Task:
    """The task with the shapes of everything and no data."""
    class_names = tuple(str(label) for label in range(shape.num_classes))
    preparation: Normalisation | TokenEmbedding
    if isinstance(shape, ImageShape):
        preparation = Normalisation(torch.zeros(shape.channels, 1, 1), torch.ones(shape.channels, 1, 1))
    else:
        preparation = TokenEmbedding(torch.empty(1, shape.embedding_dim))
    scale = Scale.of_fan_in(layout, experiment.generator.soft_clip)
    return Task(experiment.dataset, target, class_names, shape, preparation, "none", scale)


def pass_cost(meta: MetaGenerator, num_read: int, num_samples: int) -> PassCost:
    """One generated network from `num_read` tokens: of stage 1, or of stage 2 where its loss reads samples."""
    generator, task = meta.generator, meta.task
    message = Embeddings(torch.empty(num_read, generator.backbone.hidden_size, device=META))
    listed = task.most_listed
    with FlopCounterMode(display=False) as counter, _counted(generator) as saved:
        sequence = [message, *generator.tokens(task.name, listed)[0]]
        hidden = generator.hidden_states([sequence])
        z: Float[Tensor, " params"] = generator.project(task.name, hidden, listed)[0]
        with _counted(generator) as of_target:
            if num_samples:
                inputs = _inputs(task, num_samples)
                labels = torch.empty(num_samples, dtype=torch.int64, device=META)
                loss = tuning_loss(meta.network, generator.decode(task.name, z, listed), inputs, labels)
            else:
                loss = injection_loss(z, ZooMoments(torch.empty_like(z), torch.empty_like(z)))
        loss.backward()
    again: dict[int, Tensor] = {}
    size = generator.config.block_tokens
    if size is not None and is_split(sequence, size):  # on the way back there is one block at a time
        with _counted(generator) as again:
            generator.hidden_states([[message, ParameterTokens(generator.tokens(task.name)[0][0].vectors[:size])]])
    only_target = {storage: tensor for storage, tensor in of_target.items() if storage not in saved}
    return PassCost(int(counter.get_total_flops()), _bytes_in(saved) + _bytes_in(again), _bytes_in(only_target))


@contextmanager
def _counted(generator: Generator) -> Iterator[dict[int, Tensor]]:
    """What autograd keeps inside, by storage, so that views of one tensor count once; parameters are held anyway."""
    saved: dict[int, Tensor] = {}
    held = {value.untyped_storage()._cdata for value in (*generator.parameters(), *generator.buffers())}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in held:
            saved[storage] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        yield saved


def _bytes_in(tensors: dict[int, Tensor]) -> int:
    return sum(value.untyped_storage().nbytes() for value in tensors.values())


def network_cost(meta: MetaGenerator, num_train: int) -> NetworkCost:
    """What it costs to train the target network itself on so many samples."""
    with FlopCounterMode(display=False) as counter:
        labels = torch.empty(1, dtype=torch.int64, device=META)
        nn.functional.cross_entropy(meta.network(_inputs(meta.task, 1)), labels).backward()
    layers = sum(any(True for _ in module.parameters(recurse=False)) for module in meta.network.modules())
    return NetworkCost(int(counter.get_total_flops()), layers, num_train)


def _inputs(task: Task, num_samples: int) -> Tensor:
    """What the target network reads of `num_samples` samples; texts are as long as they may be."""
    if isinstance(task.shape, ImageShape):
        return torch.empty(num_samples, task.shape.channels, *task.shape.size, device=META)
    assert task.dataset.text is not None
    return torch.empty(num_samples, task.dataset.text.max_tokens, task.shape.embedding_dim, device=META)
