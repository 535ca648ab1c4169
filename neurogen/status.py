"""What ran, runs and failed of a sweep; like run.py a door, which ties neurogen to hpc.

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
from hpc.jobs.status import Overview, StepStatus, cancel, watch
from hpc.jobs.study import MANIFEST

COLOURS = {"done": "green", "running": "cyan", "pending": "yellow", "failed": "red", "unknown": "magenta"}
WIDTH_OF_A_FILE = 140
# what a step says when it fails may have brackets in it, so nothing is taken for markup
CONSOLE = Console(highlight=False, soft_wrap=True, markup=False, width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)
MANY_OF_A_KIND = ("pending", "missing")
SECONDS_BETWEEN_POLLS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description="What ran, runs and failed of a sweep.")
    parser.add_argument("sweep", nargs="?", type=Path, help="its folder; left out: the newest under --root")
    parser.add_argument("--root", type=Path, default=Path("runs"))
    parser.add_argument("--watch", action="store_true", help="show it again and again until everything is over")
    parser.add_argument("--json", action="store_true", help="for programs")
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
    found = sorted(root.glob(f"sweeps/*/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ClusterError(f"there is no sweep under {root}/sweeps; give its folder, or --root")
    return found[-1].parent


def show(arguments: argparse.Namespace, folder: Path) -> None:
    if arguments.cancel:
        show_cancelled(*cancel(folder))
        return
    moments = watch(folder, SECONDS_BETWEEN_POLLS, SECONDS_BETWEEN_POLLS)
    overview = next(moments) if arguments.watch else Overview.of(folder)
    if arguments.json:
        print(overview.as_json())
    elif arguments.logs:
        follow(overview, arguments.logs)
    elif arguments.watch and sys.stdout.isatty():
        with Live(table_of(overview), console=CONSOLE, refresh_per_second=1) as live:
            for overview in moments:
                live.update(table_of(overview))
    else:
        CONSOLE.print(table_of(overview))
        for overview in moments if arguments.watch else ():
            print(overview.line(), flush=True)


def table_of(overview: Overview) -> Group:
    parts: list[RenderableType] = [str(overview.folder)]
    undone = [step for step in overview.steps if step.state != "done"]
    alike = Counter((step.kind, step.state, step.why) for step in undone if step.state in MANY_OF_A_KIND)
    if undone:
        steps = Table(*"step what state elapsed job why".split(), box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        steps.columns[0].no_wrap, steps.columns[0].min_width = True, 22  # whole, since --logs takes it
        for step in undone:
            if step.state not in MANY_OF_A_KIND:
                cells = step.identity, step.label, step.state, clock(step.elapsed_s), step.job, step.why
                steps.add_row(*cells, style=COLOURS.get(step.state))
        for (kind, state, why), count in alike.items():
            steps.add_row(f"{count} {kind}", "", state, "", "", why, style=COLOURS.get(state))
        parts.append(steps)
    parts += [f"{step.identity}: {step.log}" for step in undone if step.state == "failed" and Path(step.log).is_file()]
    titles = "stage done running pending failed other elapsed GPU-h wasted".split()
    stages = Table(*titles, box=box.SIMPLE_HEAD, padding=0, pad_edge=False, collapse_padding=True)
    for kind, members in by_kind(overview).items():
        counts = [sum(step.state == state for step in members) for state in ("done", "running", "pending", "failed")]
        stages.add_row(
            kind,
            *map(str, counts),
            str(len(members) - sum(counts)),
            clock(sum(step.elapsed_s for step in members)),
            f"{sum(step.gpu_hours for step in members):.2f}",
            f"{sum(step.wasted_gpu_hours for step in members):.2f}",
        )
    return Group(*parts, stages)


def by_kind(overview: Overview) -> dict[str, list[StepStatus]]:
    found: dict[str, list[StepStatus]] = defaultdict(list)
    for step in overview.steps:
        found[step.kind].append(step)
    return found


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def follow(overview: Overview, name: str) -> None:
    found = [step for step in overview.steps if step.identity.startswith(name) or f"{step.kind} {step.label}" == name]
    if len(found) != 1 or not found[0].log:
        known = ", ".join(step.identity for step in (found or overview.steps) if step.log)
        raise ClusterError(f"{name} names {len(found)} steps that have a log; allowed: {known or 'none was submitted'}")
    subprocess.run(["tail", "--lines=+1", "--follow=name", "--retry", found[0].log], check=False)


def show_cancelled(taken: list[str], wanted: list[str], of_others: list[str]) -> None:
    print(f"{len(taken)} steps taken out of the queue; the same command as before puts them back")
    for steps, why in ((wanted, "another sweep waits for them"), (of_others, "other accounts submitted them")):
        if steps:
            print(f"{len(steps)} stay, since {why}: {', '.join(steps)}")


if __name__ == "__main__":
    main()
