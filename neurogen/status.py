"""The progress of a sweep: what is done, runs, waits and has failed. An entry point, so it may import hpc.

python -m neurogen.status                     the newest sweep under runs/
python -m neurogen.status runs/sweeps/NAME --watch
python -m neurogen.status --failed            why, the last lines of the logs, and what to do
python -m neurogen.status --help

Where SLURM does not answer, it shows what files tell, and how old that is.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unicodedata import category

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from hpc.errors import ClusterError
from hpc.jobs.command import poll_s
from hpc.jobs.diagnosis import setting_to_raise
from hpc.jobs.logs import last_lines
from hpc.jobs.state import State
from hpc.jobs.status import Cancelled, Overview, StepStatus, cancel, watch
from hpc.jobs.sweep import MANIFEST
from hpc.jobs.unheard import age
from neurogen.errors import errors_in_one_line
from neurogen.parser import Parser
from neurogen.streams import make_lasting

COLOURS = {
    State.DONE: "green",
    State.RUNNING: "cyan",
    State.PENDING: "yellow",
    State.FAILED: "red",
    State.UNKNOWN: "magenta",
}
WIDTH_OF_A_FILE, NARROWEST = 140, 60  # columns; rich draws no table in very few
MANY = (State.PENDING, State.MISSING, State.UNKNOWN)  # steps in these states that never ran are many and alike
STEP_COLUMNS = ("step", "name", "state", "elapsed", "job", "reason")
KIND_COLUMNS = ("kind", "done", "running", "pending", "failed", "other", "elapsed", "GPU-h", "wasted")


LINES_OF_A_LOG = 12  # of a failed step


def main() -> None:
    """The command. Errors of the user's are one line and exit status 1; interrupted, 130."""
    make_lasting()
    with errors_in_one_line(ClusterError):
        arguments = build_parser().parse_args()
        try:
            show(arguments, arguments.sweep or newest(arguments.root))
        except KeyboardInterrupt:
            sys.exit(130)


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(prog="neurogen status", description="What of a sweep is done, runs, waits and has failed.")
    parser.add_argument("sweep", nargs="?", type=Path, help="its folder; default: the newest under --root")
    parser.add_argument("--root", type=Path, default=Path("runs"))
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--watch", action="store_true", help="show it again and again until everything is over")
    either.add_argument("--failed", action="store_true", help="why steps failed, the ends of their logs, what to do")
    either.add_argument("--json", action="store_true", help="for other programs")
    either.add_argument("--logs", metavar="STEP", help="follow the log of a step (the beginning of its name is enough)")
    either.add_argument("--cancel", action="store_true", help="take what waits or runs out of the queue")
    return parser


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
    overview = printable(Overview.of(folder))
    if arguments.json:
        print(overview.as_json())
    elif arguments.logs:
        follow(overview, arguments.logs)
    elif arguments.failed:
        console().print(Group(*head_of(overview), *failures_of(overview)))
    elif arguments.watch:
        show_changes(map(printable, watch(folder, 2 * poll_s(), 2 * poll_s())))
    else:
        console().print(tables_of(overview))


def printable(overview: Overview) -> Overview:
    """The same without control characters: in a shared root its texts are those of other accounts too."""
    steps = [
        replace(
            step,
            identity=plain(step.identity),
            kind=plain(step.kind),
            label=plain(step.label),
            reason=plain(step.reason),
            job=plain(step.job),
            cause=plain(step.cause),
        )
        for step in overview.steps
    ]
    return replace(overview, command=plain(overview.command), steps=tuple(steps))


def plain(text: str) -> str:
    """The text with a � for every sign that a terminal may obey instead of showing it."""
    return "".join(sign if sign.isprintable() or sign == "\t" or category(sign) == "Zs" else "�" for sign in text)


def show_changes(overviews: Iterator[Overview]) -> None:
    """Redraw a terminal until the sweep is over, and leave the last tables on it; elsewhere print a line for each."""
    overview = next(overviews)
    if not sys.stdout.isatty():
        console().print(tables_of(overview))
        for overview in overviews:
            print(overview.line(), flush=True)
        return
    try:
        with Live(tables_of(overview, sums_first=True), console=console(), screen=True, refresh_per_second=1) as live:
            for overview in overviews:
                live.update(tables_of(overview, sums_first=True))
    finally:
        console().print(tables_of(overview))


def console() -> Console:
    """Without markup, since a failed step's message may have brackets in it."""
    width = None if sys.stdout.isatty() else WIDTH_OF_A_FILE
    shown = Console(highlight=False, soft_wrap=True, markup=False, width=width)
    if shown.width < NARROWEST:
        shown.width = NARROWEST
    return shown


def tables_of(overview: Overview, sums_first: bool = False) -> Group:
    """What is known and since when, why steps failed, the steps that are not done, and the sums by kind.

    Sums come first where a small window may cut off the end.
    """
    undone = [step for step in overview.steps if step.state != State.DONE]
    tables: list[RenderableType] = [steps_table(undone)] if undone else []
    sums = kinds_table(overview)
    return Group(*head_of(overview), *causes_of(overview), *([sums, *tables] if sums_first else [*tables, sums]))


def head_of(overview: Overview) -> list[str]:
    """The folder, and whether the scheduler answers."""
    lines = [str(overview.folder)]
    if overview.silence:
        known = "it never answered before" if overview.as_of is None else f"it last did {age(overview.as_of)} ago"
        lines.append(f"the scheduler does not answer ({overview.silence}); {known}, the rest is what files tell")
    return lines


def causes_of(overview: Overview) -> list[str]:
    """Why steps failed, once for all that failed by themselves and alike."""
    lines = []
    for reason, steps in first_causes(overview).items():
        lines.append(f"{named(steps)} failed: {reason}")
        if Path(steps[0].log).is_file():
            lines.append(f"  log {steps[0].log}")
    if lines:
        command = shlex.join(["python", "-m", "neurogen.status", str(overview.folder), "--failed"])
        lines.append(f"  what to do: {command}")
    return lines


def first_causes(overview: Overview) -> dict[str, list[StepStatus]]:
    """The steps that failed by themselves, by reason."""
    causes: dict[str, list[StepStatus]] = {}
    for step in overview.steps:
        if step.state == State.FAILED and not step.cause:
            causes.setdefault(step.reason, []).append(step)
    return causes


def named(steps: list[StepStatus]) -> str:
    """The first of several steps, and how many more."""
    return steps[0].identity + (f" and {len(steps) - 1} more" if len(steps) > 1 else "")


def failures_of(overview: Overview) -> Iterator[str]:
    """For every first cause: the reason, what hangs on it, the end of a log, and the command that continues."""
    causes = first_causes(overview)
    if not causes:
        yield "nothing has failed"
    dependants_of = Counter(step.cause for step in overview.steps)
    for reason, steps in causes.items():
        dependants = sum(dependants_of[step.identity] for step in steps)
        setting = setting_to_raise(steps[0].kind, reason)
        command = overview.command or "the command that submitted this sweep"
        yield f"\n{named(steps)} ({steps[0].label}) failed: {reason}"
        yield f"  {dependants} steps need it"
        log = Path(steps[0].log)
        if log.is_file():
            yield f"  the last lines of {log}"
            yield from (f"    {plain(line.rstrip())}" for line in last_lines(log)[-LINES_OF_A_LOG:])
        yield "  next, once the cause is mended" if not setting else f"  next, with more than before of {setting}"
        yield f"    {command}{f' {setting}=MORE' if setting else ''}"


def steps_table(steps: list[StepStatus]) -> Table:
    """A row per step; steps that never ran are counted by kind and reason."""
    table = Table(*STEP_COLUMNS, box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.columns[0].no_wrap, table.columns[0].min_width = True, 22  # in full, so that it can be copied to --logs
    counted = Counter[tuple[str, State, str]]()
    for step in steps:
        if step.state in MANY and not step.elapsed_s:
            counted[step.kind, step.state, step.reason] += 1
        else:
            reason = "see above" if step.state == State.FAILED and not step.cause else step.reason
            cells = step.identity, step.label, step.state, clock(step.elapsed_s), step.job, reason
            table.add_row(*cells, style=COLOURS.get(step.state))
    for (kind, state, reason), count in counted.items():
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
