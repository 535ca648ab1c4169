"""The progress of a sweep: what is done, runs, waits and has failed. An entry point, so it may import hpc.

python -m neurogen.status                     the newest sweep under runs/
python -m neurogen.status runs/sweeps/NAME --watch
python -m neurogen.status --help
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from hpc.errors import ClusterError
from hpc.jobs.diagnosis import State
from hpc.jobs.scheduler import poll_s
from hpc.jobs.status import Cancelled, Overview, StepStatus, cancel, watch
from hpc.jobs.sweep import MANIFEST
from neurogen.streams import make_lasting

COLOURS = {
    State.DONE: "green",
    State.RUNNING: "cyan",
    State.PENDING: "yellow",
    State.FAILED: "red",
    State.UNKNOWN: "magenta",
}
WIDTH_OF_A_FILE, NARROWEST = 140, 60  # columns; rich draws no table in very few
COUNTED = (State.PENDING, State.MISSING)  # steps in these states are many and alike, so they get a row per kind
STEP_COLUMNS = ("step", "name", "state", "elapsed", "job", "reason")
KIND_COLUMNS = ("kind", "done", "running", "pending", "failed", "other", "elapsed", "GPU-h", "wasted")


def main() -> None:
    """The command. Errors of the user's are one line and exit status 1; interrupted, 130."""
    make_lasting()
    parser = argparse.ArgumentParser(description="What of a sweep is done, runs, waits and has failed.")
    parser.add_argument("sweep", nargs="?", type=Path, help="its folder; default: the newest under --root")
    parser.add_argument("--root", type=Path, default=Path("runs"))
    parser.add_argument("--watch", action="store_true", help="show it again and again until everything is over")
    parser.add_argument("--json", action="store_true", help="for other programs")
    parser.add_argument("--logs", metavar="STEP", help="follow the log of a step (the beginning of its name is enough)")
    parser.add_argument("--cancel", action="store_true", help="take what waits or runs out of the queue")
    arguments = parser.parse_args()
    try:
        show(arguments, arguments.sweep or newest(arguments.root))
    except ClusterError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def newest(root: Path) -> Path:
    """The folder of the sweep that was submitted last. Raises ClusterError if there is none."""
    manifests = sorted(root.glob(f"sweeps/*/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
    if not manifests:
        raise ClusterError(f"there is no sweep under {root}/sweeps; give its folder, or --root")
    return manifests[-1].parent


def show(arguments: argparse.Namespace, folder: Path) -> None:
    """Do what the arguments ask for. Raises ClusterError."""
    if arguments.cancel:
        show_cancelled(cancel(folder))
        return
    overviews = watch(folder, 2 * poll_s(), 2 * poll_s())
    overview = next(overviews) if arguments.watch else Overview.of(folder)
    if arguments.json:
        print(overview.as_json())
    elif arguments.logs:
        follow(overview, arguments.logs)
    elif arguments.watch and sys.stdout.isatty():
        with Live(tables_of(overview), console=console(), refresh_per_second=1) as live:
            for overview in overviews:
                live.update(tables_of(overview))
    else:
        console().print(tables_of(overview))
        for overview in overviews if arguments.watch else ():
            print(overview.line(), flush=True)


def console() -> Console:
    """Without markup, since a failed step's message may have brackets in it."""
    width = None if sys.stdout.isatty() else WIDTH_OF_A_FILE
    shown = Console(highlight=False, soft_wrap=True, markup=False, width=width)
    if shown.width < NARROWEST:
        shown.width = NARROWEST
    return shown


def tables_of(overview: Overview) -> Group:
    """The folder, the steps that are not done, the logs of those that failed, and the sums by kind."""
    parts: list[RenderableType] = [str(overview.folder)]
    undone = [step for step in overview.steps if step.state != State.DONE]
    if undone:
        parts.append(steps_table(undone))
    parts += [
        f"{step.identity}: {step.log}" for step in undone if step.state == State.FAILED and Path(step.log).is_file()
    ]
    return Group(*parts, kinds_table(overview))


def steps_table(steps: list[StepStatus]) -> Table:
    """A row per step; steps that wait or are missing are counted by kind and reason."""
    table = Table(*STEP_COLUMNS, box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.columns[0].no_wrap, table.columns[0].min_width = True, 22  # in full, so that it can be copied to --logs
    for step in steps:
        if step.state not in COUNTED:
            cells = step.identity, step.label, step.state, clock(step.elapsed_s), step.job, step.reason
            table.add_row(*cells, style=COLOURS.get(step.state))
    alike = Counter((step.kind, step.state, step.reason) for step in steps if step.state in COUNTED)
    for (kind, state, reason), count in alike.items():
        table.add_row(f"{count} {kind}", "", state, "", "", reason, style=COLOURS.get(state))
    return table


def kinds_table(overview: Overview) -> Table:
    """A row per kind of step: how many are in each state, and what they took."""
    table = Table(*KIND_COLUMNS, box=box.SIMPLE_HEAD, padding=0, pad_edge=False, collapse_padding=True)
    by_kind: dict[str, list[StepStatus]] = defaultdict(list)
    for step in overview.steps:
        by_kind[step.kind].append(step)
    for kind, steps in by_kind.items():
        states = Counter(step.state for step in steps)
        counts = [states[state] for state in (State.DONE, State.RUNNING, State.PENDING, State.FAILED)]
        table.add_row(
            kind,
            *map(str, counts),
            str(len(steps) - sum(counts)),
            clock(sum(step.elapsed_s for step in steps)),
            f"{sum(step.gpu_hours for step in steps):.2f}",
            f"{sum(step.wasted_gpu_hours for step in steps):.2f}",
        )
    return table


def clock(seconds: float) -> str:
    """hours:minutes:seconds"""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def follow(overview: Overview, name: str) -> None:
    """Show the log of a step, and what is added to it. Raises ClusterError if `name` does not say which step."""
    steps = [step for step in overview.steps if step.identity.startswith(name) or f"{step.kind} {step.label}" == name]
    if len(steps) != 1 or not steps[0].log:
        known = ", ".join(step.identity for step in (steps or overview.steps) if step.log)
        raise ClusterError(f"{name} names {len(steps)} steps that have a log; allowed: {known or 'none was submitted'}")
    subprocess.run(["tail", "--lines=+1", "--follow=name", "--retry", steps[0].log], check=False)


def show_cancelled(cancelled: Cancelled) -> None:
    """Print how many steps were taken out of the queue, and which stay and why."""
    print(f"{len(cancelled.taken_out)} steps taken out of the queue; the same command as before puts them back")
    for steps, reason in (
        (cancelled.shared, "another sweep waits for them"),
        (cancelled.foreign, "other accounts submitted them"),
    ):
        if steps:
            print(f"{len(steps)} stay, since {reason}: {', '.join(steps)}")


if __name__ == "__main__":
    main()
