"""What became of lists of classes: of their names, and of classes that a few samples show.

in:  the results of a cell's seeds
out: summaries over all of them
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from neurogen.report.table import rounded
from neurogen.study.results import EvaluationResult, FewShotResult
from neurogen.study.rows import DOUBTFUL, FewShotSummary, NamingSummary


def naming_of(results: Sequence[EvaluationResult]) -> dict[str, NamingSummary]:
    """What became of names, over all seeds."""
    names = dict.fromkeys(name for result in results for name in result.naming)
    summaries = {}
    for name in names:
        by_seed = [result.naming[name] for result in results if name in result.naming]
        right = [value for naming in by_seed for value in naming.right or ()]
        likely = [value for naming in by_seed for value in naming.probability or ()]
        doubtful = [value < DOUBTFUL for value in likely]
        summaries[name] = NamingSummary(
            n=max(len(right), len(likely)),
            right=statistics.fmean(right) if right else None,
            probability=rounded(4, likely),
            doubtful=rounded(4, doubtful),
        )
    return summaries


def few_shot_of(results: Sequence[EvaluationResult]) -> list[FewShotSummary]:
    """What became of shown classes, over all seeds, by the number of samples."""
    by_shots: dict[int, list[FewShotResult]] = {}
    for result in results:
        for each in result.few_shot:
            by_shots.setdefault(each.shots, []).append(each)
    summaries = []
    for shots, by_seed in by_shots.items():
        pooled = {
            name: [100 * value for each in by_seed for value in getattr(each, name)]
            for name in ("generated", "zoo", "trained", "mixed_named", "mixed_novel")
        }
        gains = [a - b for a, b in zip(pooled["generated"], pooled["zoo"], strict=True)]
        means = {name: round(statistics.fmean(values), 2) for name, values in pooled.items()}
        n, errors = len(gains), _over_seeds([(each.generated, each.zoo) for each in by_seed])
        summaries.append(
            FewShotSummary(
                shots=shots,
                n=n,
                many=round(100 * statistics.fmean(each.many for each in by_seed), 2),
                generated_std=errors[0],
                gain=round(statistics.fmean(gains), 2),
                gain_error=errors[1],
                **means,
            )
        )
    return summaries


def _over_seeds(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> tuple[float | None, float | None]:
    """(deviation of the first, standard error of the paired difference), in points.

    Over the means of the seeds, since the contexts of a seed share a generator; over contexts where there is one seed.
    """
    generated = [[100 * value for value in ours] for ours, _ in pairs]
    gains = [[100 * (a - b) for a, b in zip(ours, zoo, strict=True)] for ours, zoo in pairs]
    values, differences = (
        parts[0] if len(parts) == 1 else [statistics.fmean(part) for part in parts] for parts in (generated, gains)
    )
    if len(values) < 2:
        return None, None
    return round(statistics.stdev(values), 2), round(statistics.stdev(differences) / len(differences) ** 0.5, 2)
