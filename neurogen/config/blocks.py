"""The rule for generator.block_tokens, which joins several settings.

in:  an experiment
out: nothing, or a UserError
"""

from __future__ import annotations

from neurogen.config.experiment import Experiment
from neurogen.config.generator import TokenOrder
from neurogen.errors import UserError


def check_blocks(e: Experiment) -> None:
    """Blocks of parameter tokens follow everything else, and are computed again by themselves."""
    size, order = e.generator.block_tokens, e.generator.order
    if size is None:
        return
    given = f"generator.block_tokens={size}"
    is_list = order == TokenOrder.interleaved and e.dataset.ways is not None  # its inner tokens follow everything else
    if order != TokenOrder.context_first and not is_list:
        raise UserError(
            f"{given} reads tokens behind instruction and context, and generator.order={order} does not put them "
            "there; set generator.order=context_first, or generator.block_tokens=null"
        )
    if e.backbone.gradient_checkpointing:
        raise UserError(
            f"{given} computes each block again on the way back, and backbone.gradient_checkpointing=true each layer, "
            "which cannot keep what the blocks share; set backbone.gradient_checkpointing=false and lower "
            "generator.block_tokens where memory is short"
        )
