"""The results of the GPU benchmark as Markdown, for docs/performance.md.

in:  what gpu.json holds: by section what it reported, its exit status and its seconds
out: one table per kind of section; a section that did not end has a row that says so
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Results = Mapping[str, Mapping[str, Any]]
MISSING = "–"


def markdown(results: Results) -> str:
    """All tables for which there are results, with a heading each."""
    parts = [f"{heading}\n\n{content}" for heading, make in TABLES.items() if (content := make(results))]
    return "\n\n".join(parts) + "\n"


def machine(results: Results) -> str:
    """One line about the machine; empty where it was not measured."""
    about = results.get("machine", {})
    if "versions" not in about:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version)
    gpus, driver = ", ".join(about["gpus"]) or "no GPU", about["driver"] or "none"
    return (
        f"{gpus} (driver {driver}), {about['cpu_cores']} cores of {about['cpu']}, Python {about['python']}, "
        f"{versions}; commit {about['commit']}"
    )


def whole(results: Results) -> str:
    """Whole runs, by kind of data."""
    rows = [
        [case, ending(result), ", ".join(f"{value:.1f}" for value in result.get("generated_percent", [])) or MISSING]
        for case, result in cases(results, "whole")
    ]
    return table(["case", "exit status", "generated networks, % on test"], rows)


def parity(results: Results) -> str:
    """Losses in every format, relative to the CPU's."""
    rows = [
        [name, *(f"{values[key]:.1e}" for key in ("first", "largest", "last"))]
        for name, values in results.get("parity", {}).items()
        if isinstance(values, dict)
    ]
    return table(["format on the GPU", "first step", "largest", "last step"], rows)


def resume(results: Results) -> str:
    """Which results came out equal."""
    parts = ("zoo_again", "stages_again", "resumed")
    rows = [
        [case, *(comparison(result.get(part)) for part in parts), str(result.get("stops", MISSING))]
        for case, result in cases(results, "resume")
    ]
    return table(["algorithms", "zoo trained again", "both stages again", "stopped and resumed", "stops"], rows)


def comparison(values: Mapping[str, Any] | None) -> str:
    """One cell: equal in all bits, or by how much not."""
    if values is None:
        return MISSING
    if not values["differ"]:
        return f"equal in all bits ({values['tensors']} tensors)"
    return f"{values['differ']} of {values['tensors']} tensors differ, by {values['largest_difference']:.1e} at most"


def large_stages(results: Results) -> str:
    """Both stages of the large backbones, beside what `dry_run` expects."""
    rows = []
    for case, result in cases(results, "large"):
        for kind in ("inject", "tune"):
            if kind in result:
                expected = result["dry_run"][kind]
                speed = result[kind]
                factor = f"{speed['step_s'] / expected:.1f}"
                rows.append([f"{case}, {kind}", *speed_cells(speed), f"{expected:.3f}", factor])
        if "inject_one_by_one" in result:
            cells = speed_cells(result["inject_one_by_one"])
            rows.append([f"{case}, inject, one context at a time", *cells, MISSING, MISSING])
    return table([*["backbone, stage"], *SPEED, "`dry_run`: s per step", "measured / `dry_run`"], rows)


def large_passes(results: Results) -> str:
    """The bare passes of the large backbones."""
    rows = [
        [f"{case}, {name}", *timing_cells(timing)]
        for case, result in cases(results, "large")
        for name, timing in result.get("passes", {}).items()
    ]
    return table(["backbone, pass there and back", *TIMING], rows)


def profiles(results: Results) -> str:
    """Launched kernels and busy time of one pass."""
    rows = [
        [case, str(profile["kernels"]), f"{1000 * profile['busy_s']:.0f}"]
        for case, result in cases(results, "large")
        if (profile := result.get("profile", {"kernels": 0}))["kernels"]
    ]
    return table(["backbone, batch of 1", "kernels", "GPU busy, ms"], rows)


def zoo(results: Results) -> str:
    """The ways to train eight networks."""
    result = results.get("zoo", {})
    kinds = {"now": "as it is now", "deterministic": "as it is now, deterministic=true"}
    rows = [[title, *timing_cells(result[name])] for name, title in kinds.items() if name in result]
    rows += [[name, *timing_cells(timing)] for name, timing in result.get("ways", {}).items()]
    for name, timing in result.get("graphs", {}).items():
        cells = timing_cells(timing) if isinstance(timing, dict) else [timing, *[MISSING] * (len(TIMING) - 1)]
        rows.append([f"{name}, as a CUDA graph", *cells])
    return table(["eight LeNets, one update of each", *TIMING], rows)


def beside(results: Results) -> str:
    """Rows of the sections that compare pairs (rows.py)."""
    numbers = ("against_seconds", "ratio", "n")
    rows = [
        [row["what"], digits(row["seconds"]), row["against"], *(digits(row[key]) for key in numbers)]
        for name in ("steps", "demo")
        for row in results.get(name, {}).get("rows", [])
    ]
    return table(["what", "s", "against", "s", "ratio", "n"], rows)


def against_bare(results: Results) -> str:
    """A step of stage 2, which has one context, against the bare pass, with the encoder where there is one."""
    rows = []
    for case, result in cases(results, "large"):
        passes = result.get("passes", {})
        if "tune" in result and passes:
            name = next(name for name in ("batch of 1, with the encoder", "batch of 1") if name in passes)
            step, bare = result["tune"]["step_s"], passes[name]["median_s"]
            rows.append([case, f"{step:.3f}", name, f"{bare:.3f}", f"{step / bare:.2f}"])
    return table(["backbone, step of stage 2", "s", "bare pass", "s", "ratio"], rows)


def zero(results: Results) -> str:
    """Stage 2 under every stage of ZeRO."""
    rows = []
    for case, result in cases(results, "zero"):
        if "tune" in result:
            rows.append([case, *speed_cells(result["tune"]), f"{result['losses'][-1]:.4f}"])
        if "deterministic" in result:
            rows.append([f"{case}, deterministic=true", *speed_cells(result["deterministic"]), MISSING])
    return table(["`zero=`", *SPEED, "last loss"], rows)


def failures(results: Results) -> str:
    """Sections that did not end well."""
    rows = [[name, ending(result), f"{result['seconds']:.0f}"] for name, result in results.items() if result["exit"]]
    return table(["section", "exit status", "s"], rows)


TABLES: dict[str, Callable[[Results], str]] = {
    "## Machine": machine,
    "## The whole program": whole,
    "## Losses, relative to float32 on a CPU": parity,
    "## The same work again": resume,
    "## Large backbones: the stages": large_stages,
    "## Large backbones: bare passes": large_passes,
    "## Large backbones: a step against its bare pass": against_bare,
    "## Large backbones: kernels": profiles,
    "## The program beside its arithmetic": beside,
    "## Ways to train a zoo": zoo,
    "## ZeRO on one GPU": zero,
    "## Sections that failed": failures,
}

TIMING = ["ms, median", "fastest – slowest", "n", "GB at most"]
SPEED = ["s per step, median", "fastest – slowest", "n", "tokens per s", "GB at most", "MFU"]


def timing_cells(timing: Mapping[str, Any]) -> list[str]:
    """The cells of TIMING."""
    median, fastest, slowest = (digits(1000 * timing[key]) for key in ("median_s", "min_s", "max_s"))
    return [median, f"{fastest} – {slowest}", str(timing["n"]), gigabytes(timing["peak_gb"])]


def speed_cells(speed: Mapping[str, Any]) -> list[str]:
    """The cells of SPEED."""
    span = f"{speed['min_s']:.3f} – {speed['max_s']:.3f}"
    mfu = MISSING if speed["mfu"] is None else f"{100 * speed['mfu']:.1f} %"
    tokens, memory = f"{speed['tokens_per_s']:.0f}", gigabytes(speed["memory_gb"])
    return [f"{speed['step_s']:.3f}", span, str(speed["n"]), tokens, memory, mfu]


def digits(value: float) -> str:
    """Three significant ones."""
    return f"{float(f'{value:.3g}'):g}"


def gigabytes(value: float | None) -> str:
    """One cell, in GB."""
    return MISSING if value is None else f"{value:.2f}"


def ending(result: Mapping[str, Any]) -> str:
    """One cell: how the process ended."""
    return {0: "0", 124: "over its time limit", 125: "not begun in time"}.get(result["exit"], str(result["exit"]))


def cases(results: Results, kind: str) -> list[tuple[str, Mapping[str, Any]]]:
    """(case, result) of the sections whose first word is `kind`."""
    return [(name.partition(" ")[2], result) for name, result in results.items() if name.split()[0] == kind]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; nothing where there are no rows."""
    lines = [f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *rows]]
    return "\n".join(lines) if len(lines) > 2 else ""
