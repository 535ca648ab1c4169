"""How the generator is trained and evaluated: stage 1 (paper 3.3), stage 2 (paper 3.4), evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from neurogen.config.identity import IF_SET
from neurogen.config.limits import BELOW_1, NOT_NEGATIVE, POSITIVE


class Optimizer(StrEnum):
    """What updates the generator."""

    adamw = "adamw"
    sgd = "sgd"  # paper


class StageSchedule(StrEnum):
    """The learning rate after warm-up."""

    cosine = "cosine"  # falls to 0
    halving = "halving"  # halves every `halve_every` epochs (paper)


class Keep(StrEnum):
    """Which values of the generator a stage ends with."""

    last = "last"
    best = "best"  # those with the best accuracy on validation


@dataclass
class StageConfig:
    """Optimisation of one stage. Its length is `steps`, or `epochs` where steps is null."""

    steps: int | None = field(metadata=NOT_NEGATIVE)
    epochs: int | None = field(metadata=NOT_NEGATIVE)
    optimizer: Optimizer
    beta2: float = field(metadata=BELOW_1)  # of adamw: its memory of squared gradients
    lr: float = field(metadata=POSITIVE)
    token_lr_scale: float = field(metadata=POSITIVE)  # parameter tokens learn this many times as fast as the rest
    schedule: StageSchedule
    halve_every: int = field(metadata=POSITIVE)
    warmup_steps: int = field(metadata=NOT_NEGATIVE)
    weight_decay: float = field(metadata=NOT_NEGATIVE)
    clip_norm: float = field(metadata=POSITIVE)
    contexts_per_step: int = field(metadata=POSITIVE)  # networks generated per step
    validate_every: int = field(metadata=POSITIVE)  # steps
    keep: Keep

    @property
    def length(self) -> tuple[str, int | None]:
        """The setting that says how long it is, and its value."""
        return ("epochs", self.epochs) if self.steps is None else ("steps", self.steps)

    @property
    def is_left_out(self) -> bool:
        """Whether it has no step at all."""
        return self.length[1] == 0


@dataclass
class TuneConfig(StageConfig):
    """Stage 2."""

    batch_size: int = field(metadata=POSITIVE)  # samples of the loss, per network; the first are the context
    anchor: float = field(metadata=NOT_NEGATIVE)  # weight of stage 1's loss beside the cross-entropy; 0: none (paper)


@dataclass
class RecipeConfig:
    """The training of a generator from beginning to end."""

    name: str  # part of folders' names
    inject: StageConfig
    tune: TuneConfig
    adapt: TuneConfig  # stage 2 of tasks that `held_out` names, from the generator of the others


class SentenceEncoder(StrEnum):
    """A package that brings an encoder of short texts, with its weights."""

    wordllama = "wordllama"


@dataclass
class EvaluateConfig:
    """How many networks are generated for the table."""

    num_contexts: int = field(metadata=POSITIVE)  # one network each
    num_in_ensemble: int = field(metadata=POSITIVE)  # networks whose probabilities are averaged
    # so many samples, those of the context first, by which running statistics are computed anew; null: they are not
    recalibrate: int | None = field(default=None, metadata={"identity": IF_SET, **POSITIVE})
    # of named classes (dataset.ways): what else reads the names that are new, as a baseline
    sentence_encoder: SentenceEncoder | None = field(default=None, metadata={"identity": IF_SET})
