"""The bare pass of a backbone, which is the least that a step can take.

in:  a backbone with its LoRA, the number of tokens of a context
out: nothing; a forward and a backward pass on random embeddings
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from neurogen.generator.backbone import Backbone


@dataclass(frozen=True)
class BarePass:
    """The language model alone, there and back: no target network, no optimiser, no vision encoder."""

    backbone: Backbone
    num_tokens: int  # of one context

    def __call__(self, contexts: int, recompute: bool = False, lora: bool = True) -> None:
        """Of so many contexts in one batch."""
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
            states = self.backbone.decoder(inputs_embeds=inputs, use_cache=False).last_hidden_state
            states.float().square().mean().backward()
