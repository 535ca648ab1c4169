"""The program on one GPU: whether all of it runs, how exact it is, and how fast.

    python benchmarks/gpu.py [SECTION ...]        from the repository's root; --help names the sections
    DEVICE=cpu SLACK=5 python benchmarks/gpu.py   the same on a CPU, tiny: it tries the code and measures nothing

in:  sections, or the first word of several ("zero"); none: all. OUT: folder for the results; DEVICE: cuda or cpu;
     SLACK: a factor on every time limit
out: OUT/gpu.json, OUT/gpu.log, and OUT/gpu.md with the tables; exit status 1 where a section failed

Every section is a process with a time limit, so what fails or hangs takes nothing else with it. Sections that measure
no speed run at the same time on a GPU, all others by themselves. After nine minutes nothing runs any more: what had not
begun by then is left out, and named in the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import tables, whole  # noqa: E402
from benchmarks.setting import NUM_THREADS, ON_GPU, reported  # noqa: E402

TOTAL_S = 540
NOT_BEGUN = 125
OVER_TIME = 124  # exit status, as that of the command `timeout`
LOG_CHARACTERS = 40_000  # of a section

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": str(NUM_THREADS),
    "GLOO_SOCKET_IFNAME": "lo",  # the ranks of the ZeRO sections are processes of this machine
    "NCCL_SOCKET_IFNAME": "lo",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # deterministic algorithms need it
    "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
}


@dataclass(frozen=True)
class Section:
    """Its first word is a module of benchmarks/, the second a case of it."""

    name: str
    limit_s: int


# At the same time: all of these are right or wrong, fast or slow does not matter.
TOGETHER = [
    Section("machine", 110),
    *(Section(f"whole {case}", 110) for case in whole.CASES),
    Section("parity", 110),
    Section("resume default", 110),
    Section("resume deterministic", 110),
]
# One after the other, alone on the machine.
ALONE = [
    Section("zoo", 60),
    Section("large llama3_8b", 100),
    Section("large qwen2_vl_7b", 100),
    Section("zero none", 60),
    Section("steps", 60),
    Section("demo", 120),
    Section("zero stage1", 35),
    Section("zero stage2", 35),
    Section("zero stage3", 60),
]


@dataclass
class Job:
    """A running section."""

    section: Section
    folder: Path
    limit_s: float
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.log = self.folder / "log"
        command = [sys.executable, "-m", "benchmarks.section", str(self.folder), *self.section.name.split()]
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | ENVIRONMENT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def result(self) -> dict[str, Any] | None:
        """What the section reported, its exit status and seconds; None while it runs. Ends it at its limit."""
        status, elapsed = self.process.poll(), time.monotonic() - self.started
        if status is None and elapsed < self.limit_s:
            return None
        if status is None:
            self.kill()
            status = OVER_TIME
        return reported(self.output()) | {"exit": status, "seconds": elapsed}

    def output(self) -> str:
        """What the section has printed so far."""
        return self.log.read_text(errors="replace", encoding="utf-8")

    def kill(self) -> None:
        """The section, and the processes that it has started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def main() -> None:
    """Runs the chosen sections, and writes and prints what they measured."""
    sections = chosen_sections()
    slack, out = float(os.environ.get("SLACK", "1")), Path(os.environ.get("OUT", "gpu-results"))
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu.log").write_text("", encoding="utf-8")
    results: dict[str, dict[str, Any]] = {}
    end = time.monotonic() + slack * TOTAL_S
    with TemporaryDirectory(prefix="neurogen-gpu-") as folder:
        for group in groups_of(sections):
            run_together(group, Path(folder), slack, end, out, results)
    print("\n" + tables.markdown(results))
    sys.exit(any(result["exit"] for result in results.values()))


def chosen_sections() -> list[Section]:
    """What the command line asks for. Ends the program with one line where it asks for what there is not."""
    everything = [*TOGETHER, *ALONE]
    names = [section.name for section in everything]
    parser = argparse.ArgumentParser(description="The program on one GPU, measured.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(names)}; or the first word of some")
    asked = parser.parse_args().sections
    for name in asked:
        if not any(name in (known, known.split()[0]) for known in names):
            parser.error(f"there is no section {name!r}; allowed: {', '.join(names)}")
    return [section for section in everything if not asked or {section.name, section.name.split()[0]} & set(asked)]


def groups_of(sections: Sequence[Section]) -> list[list[Section]]:
    """What runs at the same time; on a CPU nothing does."""
    together = [section for section in sections if section in TOGETHER] if ON_GPU else []
    groups = [together] if together else []
    return groups + [[section] for section in sections if section not in together]


def run_together(
    sections: Sequence[Section], folder: Path, slack: float, end: float, out: Path, results: dict[str, dict[str, Any]]
) -> None:
    """Run sections at the same time, until `end` on the monotonic clock; add their results, and write all results so
    far whenever one has ended."""
    left = end - time.monotonic()
    if left <= 0:
        results |= {section.name: {"exit": NOT_BEGUN, "seconds": 0.0} for section in sections}
        write(out, results)
        return
    limits = [min(slack * section.limit_s, left) for section in sections]
    folders = [folder / section.name.replace(" ", "-") for section in sections]
    jobs = [Job(*each) for each in zip(sections, folders, limits, strict=True)]
    try:
        while jobs:
            time.sleep(0.1)
            for job in list(jobs):
                result = job.result()
                if result is None:
                    continue
                jobs.remove(job)
                results[job.section.name] = result
                record(job, result, out, results)
    finally:
        for job in jobs:
            job.kill()


def write(out: Path, results: dict[str, dict[str, Any]]) -> None:
    """All results so far, as JSON and as tables."""
    (out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / "gpu.md").write_text(tables.markdown(results), encoding="utf-8")


def record(job: Job, result: dict[str, Any], out: Path, results: dict[str, dict[str, Any]]) -> None:
    """Writes all results so far, and says how this section ended."""
    write(out, results)
    with (out / "gpu.log").open("a", encoding="utf-8") as log:
        log.write(f"==== {job.section.name}\n{job.output()[-LOG_CHARACTERS:]}\n")
    ending = {0: "done", OVER_TIME: "over its time limit"}.get(result["exit"], f"exit status {result['exit']}")
    print(f"{job.section.name}: {ending} after {result['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
