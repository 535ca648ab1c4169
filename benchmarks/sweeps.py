"""Large sweeps: a finished one again, and the submission of one, against hydra-submitit-launcher.

    DEVICE=cpu python -m benchmarks.sweeps again [--points 300]     trains all points first, for hours
    DEVICE=cpu python -m benchmarks.sweeps submit [--points 60]     on the test cluster (slurm/lab), as root

in:  the number of points, each with a seed of its own
out: again: the command once more, against a finished run once more
     submit: seconds per job until all are in the queue, and how often either side calls sbatch; a job of the stock
     launcher is a whole experiment, of ours a step or a part of a zoo (rows.py)
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.commands import FINISHED_RUN, RUN, command, row
from benchmarks.rows import Row, publish

CHECKOUT = Path(__file__).parents[1]
SHORT = ["zoo.num_networks=1", "zoo.training.epochs=1", "classical.num_networks=1", "classical.training.epochs=1"]
SHORT += ["recipe.inject.steps=1", "recipe.tune.steps=1", "evaluate.num_contexts=1"]
PATIENCE_S, POLL_S = 600, 0.1
ON_LAB = [
    "hydra/launcher=slurm",
    "cluster=here",
    "cluster.array_parallelism=4",
    "cluster.steps.default.mem_gb=0.1",
    "cluster.setup=['sleep 600']",  # so that no job takes the processors
    "site_check=false",
]
STOCK = """
import hydra
@hydra.main(version_base="1.3", config_path=None)
def main(config): pass
main()
"""
STOCK_WORDS = [
    "hydra/launcher=submitit_slurm",
    "hydra.launcher.mem_gb=null",
    "+hydra.launcher.additional_parameters={mem: 100M}",
    "hydra.launcher.array_parallelism=1",
    "+hydra.launcher.setup=['sleep 600']",
]
SBATCH = """#!/bin/sh
echo >> {calls}
exec {sbatch} "$@"
"""


def main() -> None:
    """Measures one of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["again", "submit"])
    parser.add_argument("--points", type=int)
    parser.add_argument("--pairs", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if arguments.what == "again":
            publish("sweeps-again", again(Path(name), arguments.points or 300, arguments.pairs))
        else:
            publish("sweeps-submit", submit(Path(name), arguments.points or 60))


def again(folder: Path, points: int, pairs: int) -> list[Row]:
    """The command of a finished sweep, against that of a finished run."""
    run, sweep = ([*FINISHED_RUN, *SHORT], [*FINISHED_RUN, *SHORT, "-m", f"seed=range(0,{points})"])
    for words in (run, sweep):
        command(words, folder)()
    names = f"a finished sweep of {points} points, again", "a finished run, again"
    return [row(names[0], command(sweep, folder), names[1], command(run, folder), pairs)]


def submit(folder: Path, points: int) -> list[Row]:
    """Seconds per job in the queue, on a cluster on which none runs to its end."""
    (folder / "stock.py").write_text(STOCK, encoding="utf-8")
    ours = [*RUN, "-m", *FINISHED_RUN[len(RUN) :], *SHORT, *ON_LAB, f"root={folder}/runs", f"seed=range(0,{points})"]
    stock = [sys.executable, "stock.py", "-m", *STOCK_WORDS, f"+i=range(0,{points})"]
    with counted(folder / "calls") as environment:
        seconds, jobs, calls = until_queued(ours, folder, environment, None)
        stock_seconds, stock_jobs, stock_calls = until_queued(stock, folder, environment, points)
    print(f"sbatch called {calls} times for {jobs} jobs; by the stock launcher {stock_calls} times for {stock_jobs}")
    against = f"one of {stock_jobs} jobs of hydra-submitit-launcher"
    return [Row.of(f"one of {jobs} jobs of a sweep submitted", seconds / jobs, against, stock_seconds / stock_jobs, 1)]


@contextmanager
def counted(calls: Path) -> Iterator[dict[str, str]]:
    """A running test cluster: the environment of its commands, in which a line is added to `calls` for every sbatch."""
    lab = [sys.executable, str(CHECKOUT / "slurm" / "lab" / "lab.py"), "--folder", str(calls.parent / "lab")]
    started = subprocess.run([*lab, "start"], check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
    conf = started.strip().removeprefix("export SLURM_CONF=")
    tools, sbatch = calls.parent / "bin", shutil.which("sbatch")
    tools.mkdir()
    (tools / "sbatch").write_text(SBATCH.format(calls=calls, sbatch=sbatch), encoding="utf-8")
    (tools / "sbatch").chmod(0o755)
    path = os.pathsep.join([str(tools), os.environ["PATH"]])
    changed = {"SLURM_CONF": conf, "PATH": path, "PYTHONPATH": str(CHECKOUT), "HF_HUB_OFFLINE": "1"}
    try:
        yield os.environ | changed
    finally:
        subprocess.run([*lab, "stop"], check=True)


def until_queued(
    words: list[str], folder: Path, environment: Mapping[str, str], expected: int | None
) -> tuple[float, int, int]:
    """(seconds until the jobs are in the queue, how many they are, calls of sbatch); the queue is empty afterwards.

    The stock launcher stays until its jobs have ended, so it is ended as soon as `expected` of them are there.
    """
    calls, started = folder / "calls", time.perf_counter()
    calls.write_text("", encoding="utf-8")
    with subprocess.Popen(words, cwd=folder, env=environment) as process:
        while process.poll() is None and not (expected and num_queued(environment) >= expected):
            if time.perf_counter() - started > PATIENCE_S:
                process.kill()
                sys.exit(f"not queued after {PATIENCE_S} s: {' '.join(words)}")
            time.sleep(POLL_S)
        seconds, jobs = time.perf_counter() - started, num_queued(environment)
        process.kill()
    subprocess.run(["scancel", "--user", str(os.getuid())], env=environment, check=True)
    while num_queued(environment):
        time.sleep(POLL_S)
    return seconds, jobs, len(calls.read_text(encoding="utf-8").splitlines())


def num_queued(environment: Mapping[str, str]) -> int:
    """Jobs in the queue, each task of an array as one."""
    listed = ["squeue", "--array", "--noheader"]
    return len(subprocess.run(listed, env=environment, check=True, capture_output=True).stdout.splitlines())


if __name__ == "__main__":
    main()
