"""Networks that gradient descent trains: the zoo of reference networks (paper 3.3.1) and classical training."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from neurogen.config.limits import NOT_NEGATIVE, POSITIVE


class NetworkSchedule(StrEnum):
    """The learning rate over training, and the network that is kept."""

    cosine = "cosine"  # falls to 0; the epoch with the best accuracy on validation
    constant = "constant"  # the last epoch


class ZooInit(StrEnum):
    """What the networks of a zoo have in common."""

    shared = "shared"  # one start, then other orders of the data
    independent = "independent"  # nothing: other initial weights too (paper)


class Alignment(StrEnum):
    """Whether hidden units are permuted so that networks resemble each other."""

    none = "none"
    rebasin = "rebasin"  # Git Re-Basin, towards the first network


@dataclass
class TrainingConfig:
    """How target networks are trained by gradient descent (AdamW)."""

    epochs: int = field(metadata=POSITIVE)
    batch_size: int = field(metadata=POSITIVE)
    lr: float = field(metadata=POSITIVE)
    schedule: NetworkSchedule
    weight_decay: float = field(metadata=NOT_NEGATIVE)


@dataclass
class ZooConfig:
    """The reference networks of stage 1."""

    num_networks: int = field(metadata=POSITIVE)
    chunk_size: int = field(metadata=POSITIVE)  # networks per step, so per array task on a cluster
    init: ZooInit
    shared_epochs: int = field(metadata=NOT_NEGATIVE)  # how long networks with a shared start are trained as one
    align: Alignment
    training: TrainingConfig


@dataclass
class ClassicalConfig:
    """The baseline: the same target on the same data, trained to convergence on validation, from independent seeds."""

    num_networks: int = field(metadata=POSITIVE)
    training: TrainingConfig
