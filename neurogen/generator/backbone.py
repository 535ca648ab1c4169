"""The backbone F: a language model with LoRA that reads one sequence and gives hidden states after its last norm.

in:  sequences, each of parts in reading order (parts.py)
out: hidden states [tokens, hidden] of every part

Several sequences are one batch, in which the shorter ones are padded at their end. No mask is needed: in a decoder no
token sees what comes behind it.

Parameter tokens at the end of a sequence may be read in blocks (blocks.py). Everything before them is then read once.

A vision model reads pictures through its own encoder. Their embeddings stand where its vocabulary has image tokens. All
positions, also those of the parameter tokens, are its own multimodal rotary positions (Qwen2-VL).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from neurogen.config import Attention
from neurogen.data.texts import has_half_a_sign
from neurogen.errors import UserError
from neurogen.generator.parts import Embeddings, Part, Picture, Placed, SeenPicture, Text, TokenIds
from neurogen.generator.usable import positions_of


class Backbone(nn.Module):
    """A language model, frozen except for its LoRA adapter."""

    def __init__(self, adapted: Any, tokenizer: Any, chat_template: bool) -> None:
        super().__init__()
        self.model, self.tokenizer = adapted, tokenizer
        table = adapted.get_input_embeddings().weight
        self.hidden_size = int(table.shape[1])
        self.embedding_std = float(table.float().std()) if table.device.type != "meta" else 1.0
        self.opening = torch.empty(0, dtype=torch.int64)  # token ids
        if chat_template:
            opening = tokenizer(opening_of(tokenizer), add_special_tokens=False)["input_ids"]
            self.opening = torch.tensor(opening, dtype=torch.int64)
        self.positions = positions_of(adapted.get_base_model().config)  # None: any number
        self.num_tokens_read = 0  # by all calls so far

    @property
    def device(self) -> torch.device:
        """Where the embedding table lies."""
        return self.model.get_input_embeddings().weight.device  # type: ignore[no-any-return]

    def message(self, parts: Sequence[Part]) -> list[Part]:
        """The parts as a user's message in the format of the chat template. It stays open at its end, because the
        parameter tokens are a part of it."""
        message: list[Part] = [TokenIds(self.opening)] if len(self.opening) else []
        for part in parts:
            if isinstance(part, Text) and message and isinstance(message[-1], Text):
                message[-1] = Text(message[-1].text + part.text)  # a token may cross the border between two parts
            else:
                message.append(part)
        return message

    def forward(self, sequences: Sequence[Sequence[Part]]) -> list[list[Float[Tensor, "_ hidden"]]]:
        """Hidden states of every part of every sequence."""
        placed = self.placed(sequences)
        states = self.decode(placed.vectors, placed.positions)
        self.num_tokens_read += placed.num_tokens
        return [split_like(parts, row) for parts, row in zip(placed.parts, states, strict=True)]

    def placed(self, sequences: Sequence[Sequence[Part]]) -> Placed:
        """What the decoder reads of the sequences."""
        return Placed(self.embed(sequences), None)

    def embed(self, sequences: Sequence[Sequence[Part]]) -> list[list[Float[Tensor, "_ hidden"]]]:
        """EMB_F of the paper for texts and token ids; embeddings are taken as they are.

        All texts are tokenised together, and their ids go to the device as one tensor: on a GPU each copy costs time.
        """
        parts = [part for sequence in sequences for part in sequence]
        words = [part.text for part in parts if isinstance(part, Text)]
        texts = iter(tokenised(words, self.tokenizer) if words else [])
        ids = [
            part.ids.cpu() if isinstance(part, TokenIds) else torch.tensor(next(texts), dtype=torch.int64)
            for part in parts
            if not isinstance(part, Embeddings)
        ]
        embedded = iter(self._looked_up(ids))
        return [
            [part.vectors.to(self.device) if isinstance(part, Embeddings) else next(embedded) for part in sequence]
            for sequence in sequences
        ]

    def _looked_up(self, ids: Sequence[Int64[Tensor, " _"]]) -> list[Float[Tensor, "_ hidden"]]:
        if not ids:
            return []
        embedded: Tensor = self.model.get_input_embeddings()(torch.cat(list(ids)).to(self.device))
        return split_like(ids, embedded.float())

    def decode(
        self,
        sequences: Sequence[Float[Tensor, "_ hidden"]],
        positions: Sequence[Int64[Tensor, "3 _"]] | None,
        cache: Any = None,
    ) -> Float[Tensor, "sequences longest hidden"]:
        """One pass through the decoder in its own dtype; float32 in and out. Behind the end of a shorter sequence the
        states mean nothing. `cache` has keys and values of what comes before the sequences, and takes up theirs.

        Raises UserError where a sequence is longer than the model's positions.
        """
        batch = pad_sequence(list(sequences), batch_first=True)
        num_tokens = batch.shape[1] + (0 if cache is None else int(cache.get_seq_length()))
        if self.positions is not None and num_tokens > self.positions:
            raise UserError(too_long(num_tokens, self.positions))
        where = None
        if positions is not None:
            where = pad_sequence([row.T for row in positions], batch_first=True).permute(2, 0, 1).to(self.device)
        dtype = self.model.get_input_embeddings().weight.dtype
        cached = {"use_cache": False} if cache is None else {"use_cache": True, "cache": cache}
        states = self.decoder(inputs_embeds=batch.to(dtype), position_ids=where, **cached)
        return states.last_hidden_state.float()  # type: ignore[no-any-return]

    @property
    def decoder(self) -> Any:
        """The language model proper."""
        return self.model

    @property
    def encoder(self) -> nn.Module | None:
        """What reads pictures."""
        return None


class VisionBackbone(Backbone):
    """A vision language model of Qwen2-VL's kind with LoRA."""

    def __init__(self, adapted: Any, tokenizer: Any, chat_template: bool, image_processor: Any) -> None:
        super().__init__(adapted, tokenizer, chat_template)
        self.image_processor = image_processor
        self.base = adapted.get_base_model()
        self.base.visual.is_idle_in_some_steps = True  # those without pictures; LoRA may adapt it too
        self.attention = self.base.visual.config._attn_implementation
        config = self.base.config
        self.vision_start, self.vision_end = (
            torch.tensor([token]) for token in (config.vision_start_token_id, config.vision_end_token_id)
        )

    @property
    def decoder(self) -> Any:
        """The language model proper, without the vision encoder."""
        return self.base.language_model

    @property
    def encoder(self) -> nn.Module:
        """What reads pictures."""
        encoder: nn.Module = self.base.visual
        return encoder

    def placed(self, sequences: Sequence[Sequence[Part]]) -> Placed:
        """What the decoder reads of the sequences: pictures are seen, and everything has a position."""
        seen = iter(self.see([part for parts in sequences for part in parts if isinstance(part, Picture)]))
        sequences = [[next(seen) if isinstance(part, Picture) else part for part in parts] for parts in sequences]
        embedded = self.embed(sequences)
        positions = [self.rotary_positions(*pair) for pair in zip(sequences, embedded, strict=True)]
        return Placed(embedded, positions)

    def see(self, pictures: Sequence[Picture]) -> list[SeenPicture]:
        """The embeddings of pictures, from the model's processor and encoder, between the marks of an image.

        The encoder reads the sizes of the pictures as Python's numbers. So they stay on the CPU, and the positions are
        computed there: else the CPU would wait for the GPU several times in every layer.
        """
        from transformers.vision_utils import get_vision_cu_seqlens, get_vision_position_ids

        if not pictures:
            return []
        colour = [picture.pixels.expand(3, -1, -1).cpu() for picture in pictures]
        prepared = self.image_processor(images=colour, return_tensors="pt")
        grids: Int64[Tensor, "pictures 3"] = prepared["image_grid_thw"]
        positions = get_vision_position_ids(grids, self.base.visual.spatial_merge_size)
        options = {"image_position_ids": positions.to(self.device)}
        if self.attention == Attention.flash_attention_2:
            options["image_cu_seqlens"] = get_vision_cu_seqlens(grids).to(self.device)
        pixels = prepared["pixel_values"].to(self.device)
        features = self.base.get_image_features(pixels, grids, **options).pooler_output
        start, end = self._looked_up([self.vision_start, self.vision_end])
        vectors = [torch.cat([start, feature.float(), end]) for feature in features]
        return [SeenPicture(*of_picture) for of_picture in zip(vectors, grids, strict=True)]

    def rotary_positions(self, parts: Sequence[Part], embedded: Sequence[Tensor]) -> Int64[Tensor, "3 tokens"]:
        """The model's own. They depend only on where images stand, and on their sizes."""
        is_image = torch.cat(
            [
                part.is_image if isinstance(part, SeenPicture) else torch.zeros(len(vectors), dtype=torch.int32)
                for part, vectors in zip(parts, embedded, strict=True)
            ]
        )[None]
        if not is_image.numel():  # the model's own function expects a token
            return torch.zeros(3, 0, dtype=torch.int64)
        grids = [part.grid for part in parts if isinstance(part, SeenPicture)]
        positions, _ = self.base.get_rope_index(
            is_image.long(), mm_token_type_ids=is_image, image_grid_thw=torch.stack(grids) if grids else None
        )
        return positions[:, 0]  # type: ignore[no-any-return]


def split_like(parts: Sequence[Tensor], states: Float[Tensor, "longest hidden"]) -> list[Tensor]:
    """The states of every part of a sequence, without those of its padding."""
    sizes = [len(part) for part in parts]
    return list(states[: sum(sizes)].split(sizes))


def too_long(num_tokens: int, positions: int) -> str:
    """What to do about a sequence of so many tokens."""
    return (
        f"the backbone would read {num_tokens:,} tokens, and it has {positions:,} positions; lower "
        "generator.context_samples, dataset.text.max_tokens for texts, the size of the target, read its tokens in "
        "blocks (generator.block_tokens=512), or take a backbone with more positions"
    )


def tokenised(texts: list[str], tokenizer: Any) -> list[list[int]]:
    """Token ids of texts. What looks like a special token in a text is treated as ordinary text.

    Raises UserError for a text that the tokenizer cannot read.
    """
    for text in texts:
        if has_half_a_sign(text):
            raise UserError(
                f"the text {text!r} has half of a sign that takes two (a lone surrogate); mend or remove it"
            )
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def opening_of(tokenizer: Any) -> str:
    """What the tokenizer's chat template writes before a user's message; empty where there is no template."""
    if tokenizer.chat_template is None:
        return ""
    marker = "MESSAGE"
    # some templates write today's date, and the generator would give other networks tomorrow
    template = re.sub(r"strftime_now\([^)]*\)", "'1 January 2024'", tokenizer.chat_template)
    message = [{"role": "user", "content": marker}]
    conversation: str = tokenizer.apply_chat_template(message, chat_template=template, tokenize=False)
    return conversation.split(marker)[0]
