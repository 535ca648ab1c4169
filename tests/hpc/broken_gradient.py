"""Ranks of which the last has a finite loss in stage 1 and a gradient that is no number, in every step.

python -m torch.distributed.run --nproc-per-node=2 -m tests.hpc.broken_gradient zero=stage3 root=ROOT …
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from neurogen.generator.losses import ZooMoments, injection_loss
from neurogen.run import main
from neurogen.stages import inject


def broken(z: Tensor, zoo: ZooMoments) -> Tensor:
    if os.environ["RANK"] == "1":
        z.register_hook(lambda gradient: gradient * torch.nan)
    return injection_loss(z, zoo)


if __name__ == "__main__":
    inject.injection_loss = broken  # type: ignore[attr-defined, assignment]
    main()
