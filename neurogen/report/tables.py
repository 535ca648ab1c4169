"""Rows of cells.py → tables that people read: results.csv, .json, .md and .tex of a study, a report of every cell.

Reads finished figures only and needs no torch, so that a run that is done answers at once.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurogen import store
from neurogen.report.cells import NAMES

Row = dict[str, Any]
LONGEST_SLUG = 120
COLUMNS = [
    *NAMES,
    *"status n_ok n_expected classical_mean classical_std generated_mean generated_std zoo_mean_network".split(),
    *"random_init ratio inject_accuracy max_iou zoo_iou gpu_hours min_l2 zoo_min_l2 validation steps_to_90".split(),
    "n_seeds",
    *"paper_dataset paper_classical paper_generated".split(),
]
POPULATIONS = {
    "classical": "classical training",
    "zoo": "single zoo network",
    "zoo_mean_network": "zoo mean network",
    "random_init": "random initialisation",
    "gaussian_of_zoo": "Gaussian of the zoo",
    "noisy_zoo": "imitation: noisy zoo network",
    "averaged_zoo": "imitation: average of the zoo",
    "drawn_zoo": "imitation: the Gaussian",
    "context_alone": "trained on the context alone",
    "blind_to_order": "zoo network, blind to the labels",
    "matched_zoo": "zoo network, matched to the context",
    "after_inject": "generated, after stage 1",
    "generated": "generated",
}


DEVIATION = (
    "±: standard deviation, of classical and zoo networks over networks, of all others over the means of the seeds, or "
    "over networks where there is one seed."
)


@dataclass(frozen=True)
class Table:
    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


def networks(row: Row) -> Table:
    """Accuracy of every population, and how near it is to the zoo."""
    found = []
    for name, part in row["populations"].items():
        strength = row["imitation_strengths"].get(name)
        label = POPULATIONS.get(name, name) + ("" if strength is None else f" ({strength:.2g})")
        accuracy = f"{spread(part['accuracy'], part['std'])} %"
        unseen = f"{100 * part['unseen']:.2f} %" if "unseen" in part else None
        cells = (label, accuracy, unseen, str(part["n"]), number(part["max_iou"], 2), number(part["min_l2"], 2))
        found.append(tuple(cell for cell in cells if cell is not None))
    note = (
        "IoU: the largest overlap of a network's wrong predictions with those of a zoo network, |A∩B| / |A∪B|. "
        "L2: distance to the nearest zoo network; a zoo network is compared with the others. Imitations are as "
        "accurate as the generated networks on validation, or as near to that as they come; in brackets how strong "
        "they are (noise in deviations of each tensor, networks averaged, deviations of each weight). " + DEVIATION
    )
    header = ["network", "test accuracy", "n", "IoU", "L2"]
    if len(found[0]) > len(header):
        header.insert(2, "unseen classes")
    return Table("", tuple(header), found, note)


def conditions(row: Row) -> Table:
    found = [
        (name, f"{100 * part['accuracy']:.2f} %", number(part["change"], 3)) for name, part in row["conditions"].items()
    ]
    note = (
        f"n = {row['n_ok']} contexts each. Change: root mean square of what it changes in the generated parameters, "
        "in standard deviations of each tensor."
    )
    return Table("condition", ("what the generator was told", "test accuracy", "change"), found, note)


def tensors(row: Row) -> Table:
    found = [
        (name, number(part["zoo"], 3), number(part["generated"], 3), number(part["generated"] / part["zoo"], 2))
        for name, part in row["norms"].items()
    ]
    note = "Mean L2 norm of each tensor. A generator that collapses shows here as a ratio far from 1."
    return Table("tensors", ("tensor", "zoo", "generated", "ratio"), found, note)


def noise(row: Row) -> Table:
    found = [
        (strength, *(f"{100 * part[name]:.2f} %" for name in ("zoo", "generated")))
        for strength, part in row["noise"].items()
    ]
    note = "Mean test accuracy with Gaussian noise of so many standard deviations of each tensor on all weights."
    return Table("noise", ("strength", "zoo", "generated"), found, note)


def ensembles(row: Row) -> Table:
    found = []
    for name, part in row["ensembles"].items():
        single = f"{row['populations'][name]['accuracy']:.2f} %"
        found.append((POPULATIONS[name], f"{part['members']:.0f}", f"{100 * part['accuracy']:.2f} %", single))
    note = "The networks' probabilities are averaged."
    return Table("ensembles", ("networks", "members", "test accuracy", "a single one"), found, note)


def heading(row: Row) -> str:
    return f"{row['dataset']} · {row['target']} · {row['backbone']} · recipe {row['recipe']}" + (
        f" · {row['settings']}" if row["settings"] else ""
    )


def summary(row: Row) -> str:
    """What else is to be known of the figures: n, time, hardware, code."""
    seeds = "seed" if row["n_seeds"] == 1 else "seeds"
    return (
        f"{row['n_seeds']} {seeds}; {row['num_test']:,} test samples; {minutes_of([row]):.1f} min in all on "
        f"{', '.join(row['machines'])}; commit {', '.join(row['commits'])}"
    )


def minutes_of(rows: Sequence[Row]) -> float:
    """Every step once, also where several rows share it."""
    seconds: dict[str, float] = {step: spent for row in rows for step, spent in row["seconds"].items()}
    return sum(seconds.values()) / 60


def of_study(rows: Sequence[Row]) -> Table:
    """Like the paper's Table 1, with its own figures beside."""
    told = [name for name in NAMES if name in ("dataset", "target") or len({row[name] for row in rows}) > 1]
    has_paper = any(row["paper_dataset"] for row in rows)
    header = (*told, "classical", "generated", "difference", "validation", "steps to 90 %", "n")
    found = []
    for row in rows:
        classical, generated = (spread(row[f"{name}_mean"], row[f"{name}_std"]) for name in ("classical", "generated"))
        both = row["classical_mean"] is not None and row["generated_mean"] is not None
        difference = f"{row['generated_mean'] - row['classical_mean']:+.2f}" if both else ""
        counts = f"{row['n_classical']}, {row['n_seeds']} × {row['n_ok'] // max(1, row['n_seeds'])}"
        learned = (number(row["validation"], 2), number(row["steps_to_90"], 0))
        cells = [*(row[name] for name in told), classical, generated, difference, *learned, counts]
        if has_paper:
            cells += [row["paper_dataset"] or "", *(number(row[f"paper_{w}"], 2) for w in ("classical", "generated"))]
        found.append(tuple(cells))
    note = (
        "Test accuracy in percent; n: classical networks, then seeds × generated networks. Validation: generated "
        "networks on the samples by which settings may be chosen. Steps to 90 %: of stage 2, until nine tenths of the "
        "final accuracy on validation. " + DEVIATION
    )
    measured = [row for row in rows if row["n_seeds"]]
    if measured:
        machines, commits = (sorted({one for row in measured for one in row[k]}) for k in ("machines", "commits"))
        note += f" Measured on {', '.join(machines)}; {minutes_of(measured):.0f} min in all; "
        note += f"commit {', '.join(commits)}."
    if has_paper:
        header += ("paper: data", "paper: classical", "paper: NeuroGen")
        note += " The paper's figures are for its whole datasets and 7–8B backbones."
    return Table("", header, found, note)


def write_study(rows: Sequence[Row], folder: Path) -> None:
    store.write_json(folder / "results.json", rows)

    def write_csv(path: Path) -> None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    store.write_file(folder / "results.csv", write_csv)
    table = of_study(rows)
    write_text(folder / "results.md", markdown(table))
    write_text(folder / "results.tex", latex(table))
    for row in rows:
        if row["populations"]:
            write_text(folder / f"report-{slug(row)}.md", report(row))


def report(row: Row) -> str:
    parts = [f"# {heading(row)}\n\n{summary(row)}\n"]
    parts += [markdown(part(row)) for part in (networks, conditions, tensors, noise, ensembles)]
    return "\n".join(parts)


def slug(row: Row) -> str:
    """A cell as a part of a file's name, not too long for any file system."""
    words = "-".join(str(row[name]) for name in NAMES if row[name])
    name = "".join(letter if letter.isalnum() or letter in "_.=-" else "-" for letter in words)
    if len(name) <= LONGEST_SLUG:
        return name
    return f"{name[:LONGEST_SLUG]}-{hashlib.sha256(words.encode()).hexdigest()[:6]}"


def write_text(path: Path, text: str) -> None:
    store.write_file(path, lambda temporary: temporary.write_text(text))


def markdown(table: Table) -> str:
    lines = [f"## {table.title.capitalize()}", ""] if table.title else []
    lines += [_line(table.header), "|" + " --- |" * len(table.header), *map(_line, table.rows)]
    return "\n".join([*lines, "", table.note, ""])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def latex(table: Table) -> str:
    """A table for a paper, its note as a comment."""

    def lines() -> Iterator[str]:
        yield f"% {table.note}"
        yield rf"\begin{{tabular}}{{{'l' * len(table.header)}}}"
        yield r"\hline"
        yield _latex_line(table.header)
        yield r"\hline"
        yield from map(_latex_line, table.rows)
        yield r"\hline"
        yield r"\end{tabular}"

    return "\n".join(lines()) + "\n"


LATEX = str.maketrans(
    {letter: f"\\{letter}" for letter in "_%&#${}"}
    | {"±": r"$\pm$", "×": r"$\times$", "α": r"$\alpha$", "–": "--", "~": r"\textasciitilde{}", "^": r"\^{}"}
)


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cell.translate(LATEX) for cell in cells) + r" \\"


def spread(mean: float | None, std: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.2f}" + ("" if std is None else f" ± {std:.2f}")


def number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
