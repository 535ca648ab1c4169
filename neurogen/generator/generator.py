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

A generator may serve several tasks. They share φ and θ, P where their targets have the same layout, and the patch
embedding where their images have the same shape; what tells them apart is then the instruction and the data. Where
only the data say which label a class has, the order is interleaved: the tokens of a row of the output layer stand
behind the samples that bear its label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call

from neurogen.config import GeneratorConfig
from neurogen.data.preparation import ImageShape
from neurogen.generator.backbone import Backbone, Part, Picture, VisionBackbone
from neurogen.generator.patches import PatchEmbedding
from neurogen.generator.projection import build_projection
from neurogen.generator.shared import one_for_all_alike
from neurogen.generator.task import Context, Task, image_shapes
from neurogen.generator.tokens import build_tokens
from neurogen.rng import seed_of
from neurogen.training.engine import trainables_of


class Generator(nn.Module):
    """(task, instruction, context) → the parameters w_g of one target network."""

    def __init__(self, backbone: Backbone, tasks: Mapping[str, Task], config: GeneratorConfig, seed: int) -> None:
        super().__init__()
        self.backbone, self.tasks, self.config = backbone, tasks, config
        width, std = backbone.hidden_size, backbone.embedding_std
        by_class = config.order == "interleaved"
        layouts = {name: replace(task.layout, by_class=by_class) for name, task in tasks.items()}
        for name, task in tasks.items() if by_class else ():
            layouts[name].require_rows(len(task.class_names), "generator.order=interleaved")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "generator"))
            self.parameter_tokens = build_tokens(config.tokens, layouts, width, std)  # P ∈ R^{d1×d}
            self.projection = build_projection(config, layouts, width)  # θ
            shapes = {} if isinstance(backbone, VisionBackbone) else image_shapes(tasks)
            self.patches = one_for_all_alike(shapes, lambda shape: PatchEmbedding(shape, width, std))
        self.groups = {name: layout.groups(width) for name, layout in layouts.items()}
        for name, layout in layouts.items():
            self.register_buffer(f"positions_{name}", layout.positions(width), persistent=False)

    def forward(self, task: str, instruction: str, context: Context | None) -> Float[Tensor, " params"]:
        """Generated parameters as z-scores; `decode` makes weights of them."""
        tokens = self.tokens(task)
        return self.generate(task, self.sequence(task, instruction, context, tokens), tokens)

    def generate(self, task: str, sequence: list[Part], tokens: Sequence[Tensor]) -> Float[Tensor, " params"]:
        """From what the backbone reads, the parameter tokens among it."""
        read = zip(sequence, self.backbone(sequence), strict=True)
        hidden = torch.cat([states for part, states in read if any(part is one for one in tokens)])
        chunks: Float[Tensor, "tokens width"] = self.projection(hidden, task)
        return chunks.flatten()[self.get_buffer(f"positions_{task}")]

    def tokens(self, task: str) -> list[Float[Tensor, "_ width"]]:
        """P of the task's target; for the interleaved order in groups, those of a row of the output layer together."""
        tokens: Tensor = self.parameter_tokens(task)
        return list(tokens.split(self.groups[task]))

    def sequence(
        self, task: str, instruction: str, context: Context | None, tokens: list[Float[Tensor, "_ width"]]
    ) -> list[Part]:
        """The instruction, every sample with its label, the parameter tokens: in the order that the config asks for."""
        samples = self.samples(task, context) if context is not None and context.labels else []
        if self.config.order == "interleaved":
            inner, *rows = tokens
            names = self.tasks[task].class_names
            parts = [instruction, inner, *told([one for one in samples if one[1] not in names])]
            for name, row in zip(names, rows, strict=True):
                parts += [*told([one for one in samples if one[1] == name]), row]
            return self.backbone.message(parts)
        message = self.backbone.message([instruction, *told(samples)])
        return [*message, *tokens] if self.config.order == "context_first" else [*tokens, *message]

    def samples(self, task: str, context: Context) -> list[tuple[Part, str]]:
        """The context's samples as the backbone can read them, each with its label."""
        if not isinstance(self.tasks[task].shape, ImageShape):
            parts: list[Part] = list(context.texts)
        elif task not in self.patches:
            parts = [Picture(pixels) for pixels in context.samples]
        else:
            parts = list(self.patches[task](context.preparation(context.samples).to(self.backbone.device)))
        return list(zip(parts, context.labels, strict=True))

    def decode(self, task: str, z: Float[Tensor, " params"]) -> dict[str, Tensor]:
        """w_g, cut into the tensors of the target."""
        scale = self.tasks[task].scale
        return scale.layout.tensors(scale.decode(z))

    @property
    def trainables(self) -> dict[str, nn.Parameter]:
        """{P, φ, θ} and the patch embedding, where there is one, by name."""
        return trainables_of(self)


def told(samples: Sequence[tuple[Part, str]]) -> list[Part]:
    """Samples, each with its label."""
    return [part for sample, label in samples for part in ("\n", sample, f" = {label}")]


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
