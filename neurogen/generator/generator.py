"""NeuroGen's method: a language model generates the parameters of a small network.

    instruction ─► EMB_F ────────┐
    context: samples ────────────┤                                           ┌─ stage 1: ‖w_i − w_g‖²   (eq. 1)
             labels ─► EMB_F ────┼─► F (frozen, LoRA φ) ─► θ ─► z ─► w_g ────┤
    parameter tokens P ──────────┘      hidden states             scale      └─ stage 2: CE(f(x | w_g), y)   (eq. 2)
                                        at P's positions

Samples are texts (EMB_F again) or images. Images go through F's own vision encoder where it has one, else through a
linear patch embedding. {P, φ, θ} and that patch embedding are trained, in both stages. The backbone stays frozen.

The paper writes the input as [P, e]. In a causal model the hidden states of P then cannot depend on the instruction or
the data. So the default order is context first: [instruction, context, P]. The whole sequence is one user's message in
the format of the backbone's chat template. P stands inside the message: behind its end, where the answer would begin,
P learns more slowly (docs/log.md).

A generator may serve several tasks. They share φ and θ. They share P where their targets have the same layout, and the
patch embedding where their images have the same shape. The instruction and the data then tell the tasks apart. In the
interleaved order, the tokens of a row of the output layer stand behind the samples of its class.

Where a prompt lists its classes by name, the network has a row per name, whose tokens stand behind the name. The tokens
of all rows are the same vectors, so that the name alone tells them apart, and a list may have any length:

    instruction ─ "- jumper:" row ─ "- handbag:" row ─ …          instruction ─ inner tokens

Large targets have so many tokens that they are read in blocks, each behind the same instruction and context
(generator.block_tokens, blocks.py).

With codes (generator.latent, latent.py) the parameter tokens differ from network to network.

The tokens of the inner layers are read in a sequence of their own, once for all lists of a batch. They come before a
list, so it could not change them; and what a row needs is the name before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurogen.config import GeneratorConfig, TokenOrder
from neurogen.data.preparation import ImageShape
from neurogen.generator.backbone import Backbone, VisionBackbone, tokenised
from neurogen.generator.blocks import is_split, read_in_blocks
from neurogen.generator.context import Context
from neurogen.generator.latent import Code, LatentTokens
from neurogen.generator.length import most_list_tokens, most_sample_tokens
from neurogen.generator.parts import Embeddings, ParameterTokens, Part, Picture, Text, TokenIds
from neurogen.generator.patches import PatchEmbedding
from neurogen.generator.places import Places
from neurogen.generator.projection import build_projection
from neurogen.generator.prompts import Prompt, batches_of, item_of
from neurogen.generator.task import Task, image_shapes
from neurogen.generator.tokens import build_tokens
from neurogen.rng import global_generator, seed_of
from neurogen.training.groups import PerTask, trainables_of


class Generator(nn.Module):
    """(task; instruction and context) → the parameters w_g of one target network, for several prompts at once."""

    def __init__(self, backbone: Backbone, tasks: Mapping[str, Task], config: GeneratorConfig, seed: int) -> None:
        super().__init__()
        self.backbone, self.tasks, self.config = backbone, tasks, config
        width, std = backbone.hidden_size, backbone.embedding_std
        by_class = config.order == TokenOrder.interleaved
        layouts = {name: replace(task.layout, by_class=by_class) for name, task in tasks.items()}
        for name, task in tasks.items() if by_class else ():
            layouts[name].require_rows(len(task.class_names), "generator.order=interleaved")
            if task.lists_classes:
                layouts[name] = layouts[name].with_rows(1)  # all rows share its tokens
        with global_generator(seed_of(seed, "generator")):
            self.parameter_tokens = build_tokens(config.tokens, layouts, width, std)  # P ∈ R^{d1×d}
            self.latent_tokens = None if config.latent is None else LatentTokens(layouts, width, config.latent)
            self.projection = build_projection(config, layouts, width)  # θ
            shapes = {} if isinstance(backbone, VisionBackbone) else image_shapes(tasks)
            self.patches = PerTask.of(shapes, lambda shape: PatchEmbedding(shape, width, std))
        self.layouts = layouts
        self.places: dict[tuple[str, int | None], Places] = {}

    def forward(self, task: str, prompts: Sequence[Prompt]) -> Float[Tensor, "networks params"]:
        """Generated parameters as z-scores, a network for every prompt; `decode` makes weights of them.

        All prompts are read as one batch. Equal ones, which have no context, are read once. Prompts that list classes
        list equally many.
        """
        keys = [self._key(prompt, place) for place, prompt in enumerate(prompts)]
        different = dict(zip(keys, prompts, strict=True))
        hidden = self.hidden_states(self.sequences(task, list(different.values())))
        if num_listed(prompts) is not None:
            instructions = list(dict.fromkeys(prompt.instruction for prompt in prompts))
            inner = dict(zip(instructions, self.hidden_states(self.inner_sequences(task, instructions)), strict=True))
            read = zip(different.values(), hidden, strict=True)
            hidden = [torch.cat([inner[prompt.instruction], rows]) for prompt, rows in read]
        z = self.project(task, hidden, num_listed(prompts))
        rows = {key: row for row, key in enumerate(different)}
        return z if len(z) == len(prompts) else z[[rows[key] for key in keys]]

    def _key(self, prompt: Prompt, place: int) -> tuple[Any, ...]:
        """Prompts with the same key are read once. With blocks every prompt takes passes of its own, and ZeRO 3 needs
        equally many on all ranks, which may have drawn different numbers of equal codes."""
        equal = (prompt.instruction, prompt.context, prompt.listed, prompt.code)
        return (*equal, place) if self.latent_tokens is not None and self.config.block_tokens is not None else equal

    def in_batches(self, task: str, prompts: Sequence[Prompt], at_once: int) -> Iterator[tuple[int, Tensor]]:
        """(the index of a prompt, z-scores [params] of its network) of all prompts, not in order; at most so many are
        read as one batch."""
        for batch in batches_of(prompts, at_once):
            yield from zip(batch, self(task, [prompts[index] for index in batch]), strict=True)

    def sequences(self, task: str, prompts: Sequence[Prompt]) -> list[list[Part]]:
        """Of every prompt the instruction, the samples with their labels, and the parameter tokens, in the order of the
        config; where it lists classes, only the tokens of their rows."""
        tokens = self.tokens(task, num_listed(prompts), [prompt.code for prompt in prompts])
        contexts = [prompt.context for prompt in prompts]
        samples = iter(self.samples(task, [context for context in contexts if context is not None]))
        return [
            self._sequence(task, prompt, [] if prompt.context is None else next(samples), group)
            for prompt, group in zip(prompts, tokens, strict=True)
        ]

    def _sequence(
        self, task: str, prompt: Prompt, samples: list[tuple[Part, str]], tokens: list[ParameterTokens]
    ) -> list[Part]:
        if self.config.order == TokenOrder.interleaved:
            inner, *rows = tokens
            names = prompt.listed or self.tasks[task].class_names
            others = [(sample, label) for sample, label in samples if label not in names]
            before = [inner] if prompt.listed is None else []
            parts: list[Part] = [Text(prompt.instruction), *before, *labelled(others)]
            for name, row in zip(names, rows, strict=True):
                heading = [] if prompt.listed is None else [Text(item_of(name))]
                parts += [*heading, *labelled([(sample, label) for sample, label in samples if label == name]), row]
            return self.backbone.message(parts)
        message = self.backbone.message([Text(prompt.instruction), *labelled(samples)])
        return [*message, *tokens] if self.config.order == TokenOrder.context_first else [*tokens, *message]

    def inner_sequences(self, task: str, instructions: Sequence[str]) -> list[list[Part]]:
        """What the inner layers of networks for listed classes are read out of. The lists do not change them."""
        ((inner, *_),) = self.tokens(task, 1)
        return [self.backbone.message([Text(instruction), inner]) for instruction in instructions]

    def hidden_states(self, sequences: Sequence[Sequence[Part]]) -> list[Float[Tensor, "_ hidden"]]:
        """The backbone reads the sequences; its hidden states at P in each of them."""
        size = self.config.block_tokens
        if size is not None and all(is_split(sequence, size) for sequence in sequences):
            return read_in_blocks(self.backbone, sequences, size)
        return [
            torch.cat([state for part, state in zip(parts, states, strict=True) if isinstance(part, ParameterTokens)])
            for parts, states in zip(sequences, self.backbone(sequences), strict=True)
        ]

    def project(
        self, task: str, hidden: Sequence[Float[Tensor, "tokens hidden"]], num_classes: int | None = None
    ) -> Float[Tensor, "networks params"]:
        """The projection θ turns hidden states into z-scores; `num_classes` where the prompts list classes."""
        places = self.places_of(task, num_classes)
        chunks: Float[Tensor, "networks tokens width"] = self.projection(torch.stack(list(hidden)), task, places.index)
        return chunks.flatten(1)[:, places.positions]

    def tokens(
        self, task: str, num_classes: int | None = None, codes: Sequence[Code | None] = (None,)
    ) -> list[list[ParameterTokens]]:
        """For every code P of the task's target: one group, or for the interleaved order one for the inner layers and
        one per row. `num_classes` where its classes are listed."""
        tokens: Tensor = self.parameter_tokens(task)
        places = self.places_of(task, num_classes)
        if places.index is not None:
            tokens = tokens[places.index]
        if self.latent_tokens is None:
            return [[ParameterTokens(group) for group in tokens.split(places.groups)]] * len(codes)
        each = tokens + self.latent_tokens(task, codes)
        return [[ParameterTokens(group) for group in tokens.split(places.groups)] for tokens in each]

    def places_of(self, task: str, num_classes: int | None) -> Places:
        """Where the tokens of a target stand, on the backbone's device; `num_classes` where its classes are listed."""
        if (task, num_classes) not in self.places:
            layout, width = self.layouts[task], self.backbone.hidden_size
            with torch.inference_mode(False):  # gradients may go through them later
                places = Places.of(layout, width) if num_classes is None else Places.listed(layout, width, num_classes)
            self.places[task, num_classes] = places.to(self.backbone.device)
        return self.places[task, num_classes]

    def samples(self, task: str, contexts: Sequence[Context]) -> list[list[tuple[Part, str]]]:
        """The samples of every context in the form that the backbone reads, each with its label."""
        labels = [label for context in contexts for label in context.labels]
        if not labels:
            return [[] for _ in contexts]
        parts: list[Part]
        if not isinstance(self.tasks[task].shape, ImageShape):
            parts = [TokenIds(ids) for context in contexts for ids in context.texts]
        elif task not in self.patches:
            parts = [Picture(pixels) for context in contexts for pixels in context.samples]
        else:
            images = torch.cat([context.preparation(context.samples) for context in contexts])
            parts = [Embeddings(patches) for patches in self.patches[task](images.to(self.backbone.device))]
        pairs = iter(zip(parts, labels, strict=True))
        return [list(islice(pairs, len(context.labels))) for context in contexts]

    def decode(self, task: str, z: Float[Tensor, " params"], num_classes: int | None = None) -> dict[str, Tensor]:
        """w_g, cut into the tensors of the target (paper 3.3.2); `num_classes` where its classes are listed."""
        scale = self.tasks[task].scale
        scale = scale if num_classes is None else scale.with_rows(num_classes)
        return scale.layout.tensors(scale.decode(z))

    def prompts_at_once(self, batch_tokens: int) -> int:
        """How many prompts of any of the tasks make a batch of at most so many tokens; at least 1."""
        longest = max(self.longest_sequence(task) for task in self.tasks)
        return max(1, batch_tokens // longest)

    def longest_sequence(self, task: str) -> int:
        """The most tokens that the backbone may read for one network of the task, parameter tokens included."""
        about, tokenizer = self.tasks[task], self.backbone.tokenizer

        def count(text: str) -> int:
            return len(tokenised([text], tokenizer)[0])

        is_vision = isinstance(self.backbone, VisionBackbone)
        samples = most_sample_tokens(about, self.config.context_samples, is_vision, count)
        opened = len(self.backbone.opening) + count(about.instruction)
        if about.most_listed is None:
            return opened + samples + self.num_tokens(task)
        inner, *rows = self.places_of(task, about.most_listed).groups
        return opened + max(inner, samples + most_list_tokens(about, count) + sum(rows))

    @property
    def reads_again(self) -> bool:
        """Whether the backward pass reads parameter tokens a second time (blocks.py)."""
        size = self.config.block_tokens
        return size is not None and any(self.places_of(task, None).groups[0] > size for task in self.tasks)

    def num_tokens(self, task: str) -> int:
        """The parameter tokens of the task, at most."""
        return sum(self.places_of(task, self.tasks[task].most_listed).groups)

    @property
    def trainables(self) -> dict[str, nn.Parameter]:
        """{P, φ, θ}, and where there are any the patch embedding and the tokens of codes, by name."""
        return trainables_of(self)


def num_listed(prompts: Sequence[Prompt]) -> int | None:
    """How many classes each of the prompts lists; None where they list none."""
    (count,) = {None if prompt.listed is None else len(prompt.listed) for prompt in prompts}
    return count


def labelled(samples: Sequence[tuple[Part, str]]) -> list[Part]:
    """One line per sample: the sample, an equals sign, its label."""
    return [part for sample, label in samples for part in (Text("\n"), sample, Text(f" = {label}"))]
