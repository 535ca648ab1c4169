"""Tables of a cell of a study: its networks, conditions, tensors, and what else its evaluations have measured.

in:  a Row as results.json holds it
out: Tables of text; formats.py writes them to files, terminal.py prints them, html.py shows them

Needs neither torch nor pandas, so that a finished run is shown at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from neurogen.report.table import Table, fixed, percent, spread, two_digits
from neurogen.study.results import Population
from neurogen.study.rows import DOUBTFUL, Row

LABELS = {
    Population.CLASSICAL: "classical training",
    Population.ZOO: "single zoo network",
    Population.ZOO_MEAN: "zoo mean network",
    Population.ZOO_MEAN_RECALIBRATED: "zoo mean network, recalibrated",
    Population.RANDOM: "random initialisation",
    Population.GAUSSIAN: "Gaussian of the zoo",
    Population.MATCHED_NOISE: "matched: noisy zoo network",
    Population.MATCHED_AVERAGE: "matched: average of the zoo",
    Population.MATCHED_GAUSSIAN: "matched: Gaussian of the zoo",
    Population.CONTEXT_ALONE: "trained on the context alone",
    Population.LABELS_IGNORED: "zoo network, labels ignored",
    Population.LABELS_INFERRED: "zoo network, labels inferred",
    Population.NEAREST_EMBEDDING: "new names: nearest by embedding",
    Population.NEAREST_STATE: "new names: nearest by hidden state",
    Population.NEAREST_SENTENCE: "new names: nearest by sentence encoder",
    Population.ASKED: "new names: the language model asked",
    Population.AFTER_INJECT: "generated, after stage 1",
    Population.AFTER_INJECT_RECALIBRATED: "generated, after stage 1, recalibrated",
    Population.NEW_NAMES: "generated, new names",
    Population.GENERATED_RECALIBRATED: "generated, recalibrated",
    Population.GENERATED: "generated",
}
COMMIT_DIGITS = 12
DEVIATION = (
    "±: standard deviation. Of classical and zoo networks it is over networks, of all others over the means of the "
    "seeds, or over networks where there is one seed."
)
DEVIATION_OF_LISTS = (
    "n: lists of classes. ±: standard deviation over the means of the seeds, or over lists where there is one seed."
)
IOU = (
    "IoU: the largest overlap of a network's wrong predictions with those of a zoo network, |A∩B| / |A∪B|, where either"
    " has any. L2: distance to the nearest zoo network. Zoo networks are compared with each other."
)
MATCHED = (
    "Matched baselines are made of the zoo without a language model. On validation they are as accurate as the "
    "generated networks, or as near to that as they come. In brackets, their strength: noise in deviations of each "
    "tensor, number of networks averaged, deviations of each weight."
)


def label_of(population: str) -> str:
    """What tables call a population."""
    return LABELS[Population(population)] if population in LABELS else population


def networks(row: Row) -> Table:
    """Accuracy of every population, and how near it is to the zoo."""
    has_unseen = any(summary.unseen is not None for summary in row.populations.values())
    has_zoo = any(summary.min_l2 is not None for summary in row.populations.values())
    header = ("network", "test accuracy", *["unseen classes"] * has_unseen, "n", *["IoU", "L2"] * has_zoo)
    lines = []
    for name, summary in row.populations.items():
        strength = row.matched_strengths.get(name)
        label = label_of(name) + ("" if strength is None else f" ({two_digits(strength)})")
        accuracy = f"{spread(summary.accuracy, summary.std)} %"
        unseen = [percent(summary.unseen)] if has_unseen else []
        near = [fixed(summary.max_iou, 2), fixed(summary.min_l2, 2)] if has_zoo else []
        lines.append((label, accuracy, *unseen, str(summary.n), *near))
    notes = [*[IOU] * has_zoo, *[MATCHED] * bool(row.matched_strengths)]
    return Table("networks", header, lines, " ".join([*notes, deviation([row])]))


def deviation(rows: Sequence[Row]) -> str:
    """Over what the accuracies of these rows deviate."""
    kinds = {bool(row.naming) for row in rows if row.populations}
    if kinds == {True, False}:
        return f"{DEVIATION} Where networks are for lists of classes: {DEVIATION_OF_LISTS}"
    return DEVIATION_OF_LISTS if True in kinds else DEVIATION


def conditions(row: Row) -> Table:
    """What the generator makes of right and wrong instructions and data."""
    lines = [(name, percent(summary.accuracy), fixed(summary.change, 3)) for name, summary in row.conditions.items()]
    note = (
        f"n = {row.n_ok} contexts each. Change: root mean square of what the condition changes in the generated "
        "parameters, in standard deviations of each tensor in the zoo."
    )
    return Table("conditions", ("condition", "test accuracy", "change"), lines, note)


def tensors(row: Row) -> Table:
    """Norms of the tensors, of the zoo and generated."""
    lines = [
        (name, fixed(norm.zoo, 3), fixed(norm.generated, 3), fixed(norm.generated / norm.zoo if norm.zoo else None, 2))
        for name, norm in row.norms.items()
    ]
    note = "Mean L2 norm of each tensor. A generator that collapses shows here as a ratio far from 1."
    return Table("tensors", ("tensor", "zoo", "generated", "ratio"), lines, note)


def noise(row: Row) -> Table:
    """Accuracy with noise on all weights."""
    lines = [(strength, percent(part.zoo), percent(part.generated)) for strength, part in row.noise.items()]
    note = "Mean test accuracy with Gaussian noise of so many standard deviations of each tensor on all weights."
    return Table("noise", ("strength", "zoo", "generated"), lines, note)


def ensembles(row: Row) -> Table:
    """Accuracy of several networks together."""
    lines = []
    for name, ensemble in row.ensembles.items():
        summary = row.populations[name]
        of_members = f"{summary.accuracy:.2f} %", fixed(summary.spread, 2)
        lines.append((label_of(name), f"{ensemble.members:.0f}", percent(ensemble.accuracy), *of_members))
    note = (
        "An ensemble averages the probabilities of its members. Spread: mean L2 distance between two networks, over "
        "all of their parameters."
    )
    return Table("ensembles", ("networks", "members", "test accuracy", "single network", "spread"), lines, note)


def naming(row: Row) -> Table:
    """For which known classes names were taken."""
    lines = [
        (
            label_of(name),
            str(summary.n),
            percent(summary.right),
            percent(summary.probability),
            percent(summary.doubtful),
        )
        for name, summary in row.naming.items()
    ]
    note = (
        "Of all names in the lists: how many have the row of the class that they mean; the mean probability of the "
        f"class for which a name is taken; how many are doubtful, with less than {100 * DOUBTFUL:.0f} % for any class. "
        "New names are names that training does not read."
    )
    return Table("naming", ("names", "n", "right row", "probability", "doubtful"), lines, note)


def few_shot(row: Row) -> Table:
    """Classes that no training has seen."""
    lines = [
        (
            str(part.shots),
            spread(part.generated, part.generated_std),
            fixed(part.zoo, 2),
            f"{part.gain:+.2f}" + ("" if part.gain_error is None else f" ± {part.gain_error:.2f}"),
            fixed(part.trained, 2),
            fixed(part.many, 2),
            fixed(part.mixed_named, 2),
            fixed(part.mixed_novel, 2),
            str(part.n),
        )
        for part in row.few_shot
    ]
    note = (
        "Test accuracy in percent on classes that no training has seen, of which so many samples are shown: the "
        "generated network with a row for each, ± its deviation; rows of the same samples on the zoo's mean network, "
        "and the paired difference ± its standard error; a network trained on these samples alone; rows of all "
        "training samples of these classes. Then lists of as many named classes as shown ones: the samples of either. "
        "± is over the means of the seeds, or over contexts where there is one seed, and then of this one generator. "
        "n: contexts."
    )
    header = ("samples", "generated", "zoo's body", "difference", "trained", "all samples", "named", "novel", "n")
    return Table("few_shot", header, lines, note)


def of_row(row: Row) -> list[Table]:
    """All tables of a cell that have lines."""
    every = [networks(row), naming(row), few_shot(row), conditions(row), tensors(row), noise(row), ensembles(row)]
    return [table for table in every if table.rows]


def heading(row: Row) -> str:
    """The cell in words."""
    settings = f" · {row.settings}" if row.settings else ""
    return f"{row.dataset} · {row.target} · {row.backbone} · recipe {row.recipe}{settings}"


def summary(row: Row) -> str:
    """What else a reader has to know of the figures: n, time, hardware, code."""
    seeds = "seed" if row.n_seeds == 1 else "seeds"
    return (
        f"{row.n_seeds} {seeds}; {row.num_test:,} test samples; {minutes_of([row]):.1f} min in all on "
        f"{', '.join(row.machines)}; commit {', '.join(row.commits)}{from_hub([row])}"
    )


def from_hub(rows: Sequence[Row]) -> str:
    """What was read of the Hub, with the beginning of its commit; empty where nothing was."""
    pairs = (line.split() for line in sorted({line for row in rows for line in row.revisions}))
    read = [f"{name} {commit[:COMMIT_DIGITS]}" for name, commit in pairs]
    return f"; read from the Hub: {', '.join(read)}" if read else ""


def minutes_of(rows: Sequence[Row]) -> float:
    """The time of all steps; a step counts once, also where several rows share it."""
    seconds = {step: duration for row in rows for step, duration in row.seconds.items()}
    return sum(seconds.values()) / 60
