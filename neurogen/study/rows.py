"""The rows of tables, as types: what results.json and results.csv of a sweep hold.

Rows hold percent, means over networks and seeds (report/cells.py makes them of the results of steps). No torch here, so
that a finished run is shown at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum

RESULTS_FILE = "results.json"  # in the folder of a study


@dataclass(frozen=True)
class FewShotSummary:
    """Percent, over contexts and seeds."""

    shots: int
    n: int
    many: float
    generated: float
    generated_std: float | None  # over the means of the seeds; over contexts where there is one seed
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
    right: float | None  # None where names mean nothing
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
    ratio: float | None  # generated / classical; None where classical networks are never right
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

    @property
    def difference(self) -> float | None:
        """Of generated and classical networks, in points."""
        if self.generated_mean is None or self.classical_mean is None:
            return None
        return self.generated_mean - self.classical_mean


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
