"""NeuroGen's method, whole: a language model generates the parameters of a small network.

    instruction ─► EMB_F ────────┐
    context: samples ────────────┤                                           ┌─ stage 1: ‖w_i − w_g‖²   (eq. 1)
             labels ─► EMB_F ────┼─► F (frozen, LoRA φ) ─► θ ─► z ─► w_g ────┤
    parameter tokens P ──────────┘      hidden states             scale      └─ stage 2: CE(f(x | w_g), y)   (eq. 2)
                                        at P's places

Samples are texts (EMB_F again) or images: F's own vision encoder where it has one, else a linear patch embedding.
Trained are {P, φ, θ} and that patch embedding, in both stages; the backbone stays as it is.

The paper writes the input as [P, e]. In a causal model P's hidden states then never see the instruction or the
data, so the default order is context first: [instruction, context, P]. All of it is one user's message in the form of
the backbone's chat template; behind its end, where the answer would begin, P learns more slowly (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call

from neurogen.backbone import Backbone, Part, Picture, VisionBackbone
from neurogen.config import GeneratorConfig
from neurogen.data.preparation import ImageShape
from neurogen.engine import trainables_of
from neurogen.patches import PatchEmbedding
from neurogen.projection import build_projection
from neurogen.runtime import seed_of
from neurogen.task import Context, TaskDescription


class Generator(nn.Module):
    """(task, instruction, context) → the parameters w_g of one target network."""

    def __init__(
        self, backbone: Backbone, tasks: Mapping[str, TaskDescription], config: GeneratorConfig, seed: int
    ) -> None:
        super().__init__()
        self.backbone, self.tasks, self.config = backbone, tasks, config
        width, std = backbone.hidden_size, backbone.embedding_std
        layouts = {name: task.layout for name, task in tasks.items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "generator"))
            self.parameter_tokens = nn.ModuleDict()  # P ∈ R^{d1×d}, a row per chunk of the target's parameters
            for name, layout in layouts.items():
                tokens = std * torch.randn(len(layout.chunks(width)), width)
                self.parameter_tokens[name] = nn.Embedding.from_pretrained(tokens, freeze=False)
            self.projection = build_projection(config, layouts, width)  # θ
            self.patches = nn.ModuleDict()  # for a backbone without eyes
            for name, task in tasks.items():
                if isinstance(task.shape, ImageShape) and not isinstance(backbone, VisionBackbone):
                    self.patches[name] = PatchEmbedding(task.shape, width, std)
        for name, layout in layouts.items():
            self.register_buffer(f"positions_{name}", layout.positions(width), persistent=False)
            self.register_buffer(f"rows_{name}", torch.arange(len(layout.chunks(width))), persistent=False)

    def forward(self, task: str, instruction: str, context: Context | None) -> Float[Tensor, " params"]:
        """Generated parameters as z-scores; `decode` makes weights of them."""
        return self.generate(task, self.message(task, instruction, context))

    def generate(self, task: str, message: list[Part]) -> Float[Tensor, " params"]:
        tokens = self.parameter_tokens[task](self.get_buffer(f"rows_{task}"))
        if self.config.order == "context_first":
            hidden = self.backbone([*message, tokens])[-1]
        else:
            hidden = self.backbone([tokens, *message])[0]
        chunks: Float[Tensor, "tokens width"] = self.projection(hidden, task)
        return chunks.flatten()[self.get_buffer(f"positions_{task}")]

    def message(self, task: str, instruction: str, context: Context | None) -> list[Part]:
        """The instruction, then every sample with its label."""
        parts: list[Part] = [instruction]
        if context is not None and context.labels:
            for sample, label in zip(self.samples(task, context), context.labels, strict=True):
                parts += ["\n", sample, f" = {label}"]
        return self.backbone.message(parts)

    def samples(self, task: str, context: Context) -> list[Part]:
        """The context's samples as the backbone can read them."""
        if not isinstance(self.tasks[task].shape, ImageShape):
            return list(context.texts)
        if task not in self.patches:
            return [Picture(pixels) for pixels in context.samples]
        return list(self.patches[task](self.tasks[task].preparation(context.samples).to(self.backbone.device)))

    def decode(self, task: str, z: Float[Tensor, " params"]) -> dict[str, Tensor]:
        """w_g, cut into the tensors of the target."""
        scale = self.tasks[task].scale
        return scale.layout.tensors(scale.decode(z))

    @property
    def trainables(self) -> dict[str, nn.Parameter]:
        """{P, φ, θ} and the patch embedding, where there is one, by name."""
        return trainables_of(self)


@dataclass(frozen=True)
class ZooMoments:
    """Mean and variance over the zoo of every parameter, as z-scores: all that stage 1 needs of it."""

    mean: Float[Tensor, " params"]
    variance: Float[Tensor, " params"]

    @staticmethod
    def of(zoo: Float[Tensor, "networks params"]) -> ZooMoments:
        return ZooMoments(zoo.mean(0), zoo.var(0, correction=0))


def injection_loss(z: Float[Tensor, " params"], zoo: ZooMoments) -> Float[Tensor, ""]:
    """L1 (eq. 1): (1/N) Σ_i MSE(w_i, w_g) over the whole zoo = MSE(mean, w_g) + mean variance, in O(|w|)."""
    return ((z - zoo.mean).square() + zoo.variance).mean()


def tuning_loss(
    network: nn.Module,
    tensors: dict[str, Tensor],
    inputs: Float[Tensor, "batch ..."],
    labels: Int64[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """L2 (eq. 2): cross-entropy of the target f(x | w_g), differentiable with respect to w_g."""
    return nn.functional.cross_entropy(functional_call(network, tensors, (inputs,)), labels)
