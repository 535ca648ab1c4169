"""The bare pass of a backbone, which is the least that a step can take.

in:  a backbone with its LoRA, the number of tokens of a context, its pictures where the backbone sees
out: nothing; a forward and a backward pass on random embeddings, and before it one through the encoder of pictures
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from neurogen.generator.backbone import Backbone, VisionBackbone
from neurogen.generator.parts import Picture


@dataclass(frozen=True)
class BarePass:
    """The language model there and back, without a target network and an optimiser."""

    backbone: Backbone
    num_tokens: int  # of one context
    pictures: Sequence[Picture] = ()  # of one context

    def __call__(self, contexts: int, recompute: bool = False, lora: bool = True, sees: bool = False) -> None:
        """Of so many contexts in one batch; with `sees`, the encoder of a vision model reads their pictures first."""
        model = self.backbone.model.get_base_model()
        if recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            model.gradient_checkpointing_disable()
        dtype = model.get_input_embeddings().weight.dtype
        size = contexts, self.num_tokens, self.backbone.hidden_size
        inputs = torch.randn(size, device=self.backbone.device, dtype=dtype, requires_grad=True)
        adapter: AbstractContextManager[Any] = nullcontext() if lora else self.backbone.model.disable_adapter()
        with adapter:
            if sees:
                assert isinstance(self.backbone, VisionBackbone)
                self.backbone.see([*self.pictures] * contexts)
            states = self.backbone.decoder(inputs_embeds=inputs, use_cache=False).last_hidden_state
            states.float().square().mean().backward()
