"""What was measured, as types: the results that steps leave in metrics.json, and the rows of a table.

in:  JSON as it lies in a step's folder
out: dataclasses; to_json makes the same JSON of them again

Results of steps hold fractions, one value per network. Rows of tables hold percent, means over networks and seeds. No
torch here, so that a finished run is shown at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
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
    ASKED = "asked"
    AFTER_INJECT = "after_inject"
    AFTER_INJECT_RECALIBRATED = "after_inject_recalibrated"
    NEW_NAMES = "new_names"
    GENERATED_RECALIBRATED = "generated_recalibrated"
    GENERATED = "generated"


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
    max_iou: list[float]  # overlap of its mistakes with those of the zoo network that it resembles most
    min_l2: list[float]  # distance to the nearest zoo network
    unseen: list[float] | None = None  # accuracy on the classes that generator and zoo have never seen
    spread: float | None = None  # mean distance between two of the networks; None where there is one


@dataclass(frozen=True)
class ConditionResult:
    """One value per context."""

    accuracy: list[float]
    change: list[float]  # of the parameters, against those of the right condition, in standard deviations


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
    validation_accuracy: float  # mean of the generated networks
    num_test: int
    num_train: int
    naming: dict[str, NamingResult] = field(default_factory=dict)  # by Population and by condition
    few_shot: list[FewShotResult] = field(default_factory=list)  # by the number of samples


@dataclass(frozen=True)
class NamingResult:
    """What became of the names of a list, one value per name."""

    right: list[bool]  # its row is that of the class that is meant
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


@dataclass(frozen=True)
class FewShotSummary:
    """Percent, over contexts and seeds."""

    shots: int
    n: int
    many: float
    generated: float
    generated_std: float | None  # between contexts
    zoo: float
    gain: float  # of the generated network over the zoo's, paired
    gain_error: float | None  # standard error of that
    trained: float
    mixed_named: float
    mixed_novel: float


@dataclass(frozen=True)
class NamingSummary:
    """Fractions of all names."""

    n: int
    right: float
    probability: float | None  # mean, of the class for which a name was taken
    doubtful: float | None  # names for which no class is likely


class Status(StrEnum):
    """Whether all evaluations of a row are done."""

    OK = "ok"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True)
class PopulationSummary:
    """Percent, over the networks of all seeds."""

    accuracy: float
    std: float | None  # None where there is one value
    n: int
    max_iou: float | None
    min_l2: float | None
    unseen: float | None = None  # a fraction
    spread: float | None = None  # mean distance between two networks of a seed


@dataclass(frozen=True)
class ConditionSummary:
    """Means over contexts and seeds; accuracy as a fraction."""

    accuracy: float
    change: float


@dataclass(frozen=True)
class Comparison:
    """A mean of the zoo beside that of the generated networks."""

    zoo: float
    generated: float


@dataclass(frozen=True)
class EnsembleSummary:
    """Means over seeds; accuracy as a fraction."""

    accuracy: float
    members: float


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of results.csv: a cell is a dataset × target × backbone × recipe × settings, over all seeds.

    None where nothing is measured yet. Accuracies are in percent.
    """

    dataset: str
    target: str
    backbone: str
    recipe: str
    settings: str  # in what else the points of the study differ
    status: Status
    n_ok: int  # generated networks that were measured
    n_expected: int
    classical_mean: float | None
    classical_std: float | None
    generated_mean: float | None
    generated_std: float | None
    zoo_mean_network: float | None
    random_init: float | None
    ratio: float | None  # generated / classical
    inject_accuracy: float | None  # generated after stage 1
    max_iou: float | None  # of generated networks
    zoo_iou: float | None
    gpu_hours: float
    min_l2: float | None  # of generated networks
    zoo_min_l2: float | None
    validation: float | None  # accuracy of generated networks
    steps_to_90: float | None  # of stage 2, until nine tenths of its last accuracy on validation
    n_seeds: int  # evaluations that are done
    paper_dataset: str | None  # the data of the paper that these are nearest to
    paper_classical: float | None
    paper_generated: float | None


@dataclass(frozen=True, kw_only=True)
class Row(Columns):
    """All that results.json has of a cell. The dictionaries are empty where nothing is measured yet."""

    n_classical: int
    num_test: int | None
    commits: list[str]
    machines: list[str]
    seconds: dict[str, float]  # by step, so that a step counts once where several rows share it
    populations: dict[str, PopulationSummary]
    revisions: list[str] = field(default_factory=list)  # of what came from the Hub: OWNER/NAME COMMIT
    matched_strengths: dict[str, float] = field(default_factory=dict)
    conditions: dict[str, ConditionSummary] = field(default_factory=dict)
    norms: dict[str, Comparison] = field(default_factory=dict)
    noise: dict[str, Comparison] = field(default_factory=dict)
    ensembles: dict[str, EnsembleSummary] = field(default_factory=dict)
    naming: dict[str, NamingSummary] = field(default_factory=dict)
    few_shot: list[FewShotSummary] = field(default_factory=list)


DOUBTFUL = 0.5  # below this probability of its likeliest class a name is doubtful
COLUMNS = tuple(item.name for item in fields(Columns))
NAMES = COLUMNS[:5]  # what tells the cells of a study from each other


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
