"""What steps leave in metrics.json, as types.

in:  JSON as it lies in a step's folder
out: dataclasses; to_json makes the same JSON of them again

Results hold fractions, one value per network. No torch here, so that a finished run is shown at once. What tables are
made of is in rows.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import cattrs

from neurogen.errors import UserError

Result = TypeVar("Result")


class Population(StrEnum):
    """The networks that an evaluation compares, by their names in metrics.json and results.json."""

    CLASSICAL = "classical"
    ZOO = "zoo"
    ZOO_MEAN = "zoo_mean_network"
    ZOO_MEAN_RECALIBRATED = "zoo_mean_recalibrated"
    RANDOM = "random_init"
    GAUSSIAN = "gaussian_of_zoo"
    MATCHED_NOISE = "noisy_zoo"
    MATCHED_AVERAGE = "averaged_zoo"
    MATCHED_GAUSSIAN = "drawn_zoo"
    CONTEXT_ALONE = "context_alone"
    LABELS_IGNORED = "labels_ignored"
    LABELS_INFERRED = "labels_inferred"
    NEAREST_EMBEDDING = "nearest_embedding"
    NEAREST_STATE = "nearest_state"
    NEAREST_SENTENCE = "nearest_sentence"
    ASKED = "asked"
    AFTER_INJECT = "after_inject"
    AFTER_INJECT_RECALIBRATED = "after_inject_recalibrated"
    NEW_NAMES = "new_names"
    GENERATED_RECALIBRATED = "generated_recalibrated"
    GENERATED = "generated"


class Naming(StrEnum):
    """Under which names a generator reads a list."""

    KNOWN = "right"  # names that training reads
    NEW = "new names"
    MOVED = "names in another order"
    NONSENSE = "names that mean nothing"


@dataclass(frozen=True)
class HistoryRow:
    """A step of stage 1 or 2. Validation is measured only now and then, the loss never before the first step."""

    step: int
    loss: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None


def measured(history: Sequence[HistoryRow], name: str) -> list[tuple[int, float]]:
    """(step, value) of the rows that have a value of this name."""
    series = [(row.step, getattr(row, name)) for row in history]
    return [(step, value) for step, value in series if value is not None]


@dataclass(frozen=True)
class Curve:
    """A target network that was trained by gradient descent; one value per epoch, but for the last field."""

    loss: list[float]
    validation_loss: list[float]
    validation_accuracy: list[float]
    kept_validation_accuracy: list[float]  # of the epoch whose weights were kept


@dataclass(frozen=True)
class TrainedNetworks:
    """What the steps `reference` and `classical` leave."""

    fingerprint: str  # of the data that they were trained on
    validation_accuracy: list[float]
    curves: list[Curve]


@dataclass(frozen=True)
class Environment:
    """What a step ran on, as far as tables say it."""

    commit: str | None
    gpus: list[str]
    cpu_cores: int
    cpu: str = "a CPU"  # older steps did not note it
    revisions: dict[str, str | None] = field(default_factory=dict)  # of repositories of the Hub, by their names


@dataclass(frozen=True)
class PopulationResult:
    """One value per network. A zoo of a single network has no other to be compared with."""

    accuracy: list[float]
    # overlap of its mistakes with those of the zoo network that it resembles most; None where none of them has any
    max_iou: list[float | None]
    min_l2: list[float]  # distance to the nearest zoo network
    unseen: list[float] | None = None  # accuracy on the classes that generator and zoo have never seen
    spread: float | None = None  # mean distance between two of the networks; None where there is one


@dataclass(frozen=True)
class ConditionResult:
    """One value per context."""

    accuracy: list[float]
    # of the parameters, against those of the right condition, in standard deviations of each tensor in the zoo
    change: list[float]


@dataclass(frozen=True)
class NormResult:
    """L2 norm of one tensor, one value per network."""

    zoo: list[float]
    generated: list[float]


@dataclass(frozen=True)
class NoiseResult:
    """Mean accuracy with noise of one strength on all weights."""

    zoo: float
    generated: float


@dataclass(frozen=True)
class EnsembleResult:
    """Accuracy of the averaged probabilities of several networks."""

    accuracy: float
    members: int


@dataclass(frozen=True)
class EvaluationResult:
    """What the step `evaluate` leaves."""

    populations: dict[str, PopulationResult]  # by Population, and by further names where there are several tasks
    matched_strengths: dict[str, float]  # by Population: how strong a matched baseline had to be
    conditions: dict[str, ConditionResult]
    norms: dict[str, NormResult]  # by tensor
    noise: dict[str, NoiseResult]  # by strength, in standard deviations of each tensor
    ensembles: dict[str, EnsembleResult]  # by Population
    validation_accuracy: float  # mean of the generated networks, on classes that training may know
    num_test: int
    num_train: int  # those that the generator may learn from: none of unseen classes
    naming: dict[str, NamingResult] = field(default_factory=dict)  # by Population and by Naming
    few_shot: list[FewShotResult] = field(default_factory=list)  # by the number of samples


@dataclass(frozen=True)
class NamingResult:
    """What became of the names of a list, one value per name."""

    right: list[bool] | None  # its row is that of the class that it means; None where names mean nothing
    probability: list[float] | None = None  # of the class for which it was taken; None where none is computed


@dataclass(frozen=True)
class FewShotResult:
    """Classes that no training has seen, shown by samples. Accuracies as fractions, one value per context."""

    shots: int  # samples of each class
    many: float  # with rows of all training samples on the zoo's mean network
    generated: list[float] = field(default_factory=list)
    zoo: list[float] = field(default_factory=list)  # with rows of the same samples on the zoo's mean network
    trained: list[float] = field(default_factory=list)  # a network trained on these samples alone
    mixed_named: list[float] = field(
        default_factory=list
    )  # samples of named classes, which share a list with shown ones
    mixed_novel: list[float] = field(default_factory=list)  # samples of the shown ones in such a list


def to_json(result: Any) -> Any:
    """A dataclass, or a list or dictionary of them, as JSON can hold it. Fields at their default are left out."""
    return _CONVERTER.unstructure(result)


def from_json(kind: type[Result], plain: Any, source: Path) -> Result:
    """JSON from the file or folder `source` as a dataclass; unknown keys are ignored, since a step adds its cost.

    Raises UserError where a key is missing or a value has the wrong type, as in a file of another version.
    """
    try:
        return _CONVERTER.structure(plain, kind)
    except (cattrs.BaseValidationError, LookupError, TypeError, AttributeError, ValueError) as error:
        is_listed = isinstance(error, cattrs.BaseValidationError)
        problems = "; ".join(cattrs.transform_error(error, path="")[:3]) if is_listed else repr(error)
        raise UserError(
            f"{source} was written by another version of the program ({problems}); delete it to make it again"
        ) from error


_CONVERTER = cattrs.Converter(omit_if_default=True)
