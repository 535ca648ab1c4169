"""Parameter tokens read in blocks, so that memory and time grow with their number and not with its square.

in:  sequences [prefix, P] for a backbone; the length of a block
out: the hidden states at P, where a token sees the prefix and the tokens before it in its block

    prefix ─► keys, values ─┬─► block 1: as if the sequence were [prefix, block 1]
                            ├─► block 2: as if it were [prefix, block 2]
                            └─► …

The prefix is read once. Every block stands directly behind it, so the longest sequence is [prefix, block]. On the way
back the blocks are computed again, one by one: between the passes only their inputs are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from neurogen.generator.backbone import Backbone
from neurogen.generator.parts import ParameterTokens, Part

Layers = list[tuple[Tensor, Tensor]]  # keys and values [1, heads, tokens, width] of every layer


def is_split(sequence: Sequence[Part], block_tokens: int | None) -> bool:
    """Whether a sequence ends in all of its parameter tokens, and these are more than a block."""
    groups = [part for part in sequence if isinstance(part, ParameterTokens)]
    return block_tokens is not None and groups == [sequence[-1]] and len(groups[0].vectors) > block_tokens


def read_in_blocks(
    backbone: Backbone, sequences: Sequence[Sequence[Part]], block_tokens: int
) -> list[Float[Tensor, "tokens hidden"]]:
    """The hidden states at P of every sequence. Raises UserError where [prefix, block] exceeds the positions."""
    from transformers import DynamicCache

    placed, cache = backbone.placed([sequence[:-1] for sequence in sequences]), DynamicCache()
    if placed.num_tokens:
        backbone.decode(placed.vectors, placed.positions, cache)
    backbone.num_tokens_read += placed.num_tokens
    states = []
    for index, (sequence, vectors) in enumerate(zip(sequences, placed.vectors, strict=True)):
        kept = [layer for layer in cache.layers if layer.is_initialized]
        row, length = slice(index, index + 1), len(vectors)
        layers = [(layer.keys[row, :, :length], layer.values[row, :, :length]) for layer in kept]
        before = None if placed.positions is None else placed.positions[index]
        first = None if before is None else int(before.max()) + 1 if before.numel() else 0
        tokens = backbone.embed([[sequence[-1]]])[0][0]
        read = partial(_read_block, backbone, first)
        states.append(torch.cat([_again_later(read, block, layers) for block in tokens.split(block_tokens)]))
        backbone.num_tokens_read += len(tokens)
    return states


def _read_block(
    backbone: Backbone, first: int | None, block: Float[Tensor, "tokens hidden"], *flat: Tensor
) -> Float[Tensor, "tokens hidden"]:
    """Behind keys and values that stay as they are. `first` is the position of its first token, where those are given
    in three axes."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer, (keys, values) in enumerate(zip(flat[::2], flat[1::2], strict=True)):
        cache.update(keys, values, layer)
    positions: list[Int64[Tensor, "3 tokens"]] | None = None
    if first is not None:
        positions = [torch.arange(first, first + len(block)).expand(3, -1)]
    return backbone.decode([block], positions, cache)[0]


def _again_later(
    read: partial[Float[Tensor, "tokens hidden"]], block: Float[Tensor, "tokens hidden"], layers: Layers
) -> Float[Tensor, "tokens hidden"]:
    """Read a block, and forget all but its states until the backward pass needs the rest."""
    flat = [tensor for pair in layers for tensor in pair]
    if not torch.is_grad_enabled():
        return read(block, *flat)
    states: Tensor = checkpoint(read, block, *flat, use_reentrant=False, preserve_rng_state=False)
    return states
