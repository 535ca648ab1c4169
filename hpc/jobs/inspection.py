"""What every rank of a site check does on its node.

in:  a check, the placement of this process, the folder of the batch
out: rank-START-RANK.json in that folder, replaced whenever a phase begins; from rank 0 the report of all ranks

The ranks tell each other through files, since whether they can meet is to be found out. Every phase has a time limit,
which the main thread keeps while another thread works. So a rank that hangs says so itself, and one that says nothing
is named by rank 0.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event, Thread, Timer

from hpc.errors import ClusterError, Unwritable, one_line, unexpected
from hpc.jobs.check_report import Phase, RankReport, Report, problem_of, unseen_gpus
from hpc.jobs.files import write_json
from hpc.jobs.nodes import node_of
from hpc.jobs.payload import program_named
from hpc.jobs.rank_files import RankFiles
from hpc.jobs.site_check import SiteCheck, versions_here
from hpc.ranks import probes
from hpc.ranks.placement import Placement, node_here

PROBE_BYTES = 2**20
POLL_S = 0.2
WRITES_EVERY_S = 1.0
GRACE_S = 10.0  # for other ranks, after a limit
LEAVES_WITHIN_S = 15.0
# Seconds. To import over a cold network file system is slow and not wrong; what is wrong is said within a minute.
LIMITS = {
    Phase.root: 30.0,
    Phase.versions: 20.0,
    Phase.code: 180.0,
    Phase.gpus: 30.0,
    Phase.waiting: 220.0,
    Phase.meeting: 25.0,
    Phase.inputs: 300.0,
    Phase.over: GRACE_S,  # only to write that
}


@dataclass(frozen=True)
class Station:
    """Where an inspection takes place."""

    placement: Placement
    batch_folder: Path
    stop: Event  # set by a signal
    stopped: type[BaseException]  # what is raised then
    program: str  # the module that reads the inputs, a hpc.jobs.payload.Program


def inspect(check: SiteCheck, station: Station) -> None:
    """All phases on this rank. Raises ClusterError with what is wrong here; on rank 0, with what is wrong anywhere.

    Raises station.stopped after a signal.
    """
    rank = Rank(check, station)
    rank.work()
    if station.placement.rank == 0:
        rank.conclude()
    elif rank.report.error:
        raise ClusterError(f"{rank.report.node}: {rank.report.error}")


class Rank:
    """This process's part of an inspection."""

    def __init__(self, check: SiteCheck, station: Station) -> None:
        self.check, self.station, self.placement = check, station, station.placement
        self.files = RankFiles(station.batch_folder, self.placement)
        self.report = RankReport(self.placement.rank, node_here(), Phase.root)
        self.began = time.monotonic()

    def work(self) -> None:
        """Go through the phases until one fails, takes too long, or a signal comes. Then `report` says how it ended.

        Its file says so too: to leave earlier would end the thread that writes it.
        """
        thread = Thread(target=self._phases, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(POLL_S)
            if self.station.stop.is_set():
                raise self.station.stopped
            phase, seconds = self.report.phase, time.monotonic() - self.began
            if seconds > LIMITS[phase] + 2 * GRACE_S:  # torch's own limits are not exact
                self._fail(self.report.error or f"has stood in the phase {phase} for {seconds:.0f} s")
                _leave_even_if_a_thread_hangs()
                return

    def conclude(self) -> None:
        """Wait for the other ranks, and report on all. Raises ClusterError with everything that is wrong."""
        patience_s = GRACE_S if self.files.failed(self.report) else LIMITS[Phase.inputs] + GRACE_S
        self._wait_until(lambda: self.files.all_have_ended(self.report), patience_s)
        if self.station.stop.is_set():
            raise self.station.stopped
        if not self.files.all_have_ended(self.report):
            _end_the_others()
        reports = [self._final_report(rank) for rank in range(self.placement.size)]
        problem = problem_of(reports) or unseen_gpus(reports, self.check.resources.gpus_per_node)
        report = Report(self.check.label, time.time(), problem, reports)
        try:
            report.write(self.check.folder)
            if not problem:
                write_json(self.check.marker, {"finished": report.finished})
        except Unwritable as error:
            problem = problem or f"{self.report.node}: {error}"
        if problem:
            raise ClusterError(problem)

    def _phases(self) -> None:
        try:
            for phase, work in (
                (Phase.root, self._root),
                (Phase.versions, self._versions),
                (Phase.code, self._code),
                (Phase.gpus, self._gpus),
                (Phase.waiting, self._waiting),
                (Phase.meeting, self._meeting),
                (Phase.inputs, self._inputs),
            ):
                self._reach(phase)
                work()
            self._reach(Phase.over)
        except (ClusterError, OSError) as error:
            self._fail(one_line(error))
        except BaseException as error:
            self._fail(unexpected(error))
            raise

    def _root(self) -> None:
        """Write, flush, read back; see that all ranks have begun."""
        content, path = os.urandom(PROBE_BYTES), self.files.path(self.placement.rank, "probe")
        try:
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            is_same = path.read_bytes() == content
        except OSError as error:
            raise ClusterError(self._unwritable(error)) from error
        finally:
            path.unlink(missing_ok=True)  # on a full disk it has taken the room for saying so
        if not is_same:
            raise ClusterError(f"what is written below {self.check.root} reads otherwise; mend that file system")
        ranks = range(self.placement.size)

        def all_have_begun() -> bool:
            absent = {rank for rank in ranks if not self.files.has_begun(rank)}
            return not absent or absent <= set(self.files.said())

        have_begun = self._wait_until(all_have_begun, LIMITS[Phase.root])
        if not have_begun and self.placement.rank != 0:
            raise ClusterError(f"does not see what other nodes write below {self.check.root}; is it one file system?")

    def _versions(self) -> None:
        expected = self.check.versions
        here = versions_here([name for name in expected if name != "Python"])
        self.report = replace(self.report, versions=here)
        differing = [name for name in here if here[name] != expected[name]]
        if differing:
            both = ", ".join(f"{name} {here[name]} (submitted with {expected[name]})" for name in differing)
            raise ClusterError(
                f"has {both}; let all nodes use the environment {sys.prefix}; what comes before it on PYTHONPATH there?"
            )

    def _code(self) -> None:
        """Import the snapshot, and torch where the phases to come need it."""
        for name in self.check.packages:
            place = Path(importlib.import_module(name).__file__ or "")
            if not place.is_relative_to(self.check.code):
                raise ClusterError(
                    f"imports {name} from {place.parent}, and not from the snapshot {self.check.code}; what puts that "
                    "first on PYTHONPATH there?"
                )
        if self.placement.size > 1 or self.check.resources.gpus_per_node:
            probes.load()

    def _gpus(self) -> None:
        asked = self.check.resources
        gpus = probes.working_gpus(asked.gpus_per_node, asked.tasks_per_node)
        self.report = replace(self.report, gpus=tuple(gpus))

    def _waiting(self) -> None:
        """Until all ranks have come so far, or one has failed: then nobody goes on."""
        files = self.files
        self._wait_until(lambda: files.failed(self.report) or files.all_are_ready(self.report), LIMITS[Phase.waiting])

    def _meeting(self) -> None:
        if self.placement.size == 1 or self.files.failed(self.report):
            return
        if self.files.all_are_ready(self.report):
            probes.meet(self.placement, self.check.resources.gpus_per_node > 0, LIMITS[Phase.meeting])

    def _inputs(self) -> None:
        """Read the data and the models' files, once on every node."""
        if self.placement.local_rank != 0 or self.files.failed(self.report):
            return
        program = program_named(self.station.program)
        try:
            program.read_inputs(self.check.inputs)
        except program.refused as error:
            raise ClusterError(str(error)) from error

    def _reach(self, phase: Phase) -> None:
        now, seconds = time.monotonic(), self.report.seconds
        if phase != Phase.root:
            seconds = {**seconds, self.report.phase: round(now - self.began, 2)}
        self.report, self.began = replace(self.report, phase=phase, seconds=seconds), now
        self._tell()

    def _fail(self, message: str) -> None:
        self.report = replace(self.report, error=message)
        try:
            self._tell()
        except ClusterError as error:  # the reason may be just that; rank 0 also reads the log
            print(f"{self.report.node}: {error}", file=sys.stderr, flush=True)

    def _tell(self) -> None:
        write_json(self.files.path(self.placement.rank, "json"), asdict(self.report))

    def _unwritable(self, error: OSError) -> str:
        return (
            f"cannot write below {self.check.root} ({error.strerror}); free space or mend the rights there, or put "
            "root= elsewhere"
        )

    def _final_report(self, rank: int) -> RankReport:
        """What is known of a rank in the end, with an error if that is not that all is well."""
        report = self.files.reports(self.report).get(rank)
        if report is not None and report.has_ended:
            return report
        if printed := self.files.said().get(rank):
            node, error = printed
            return RankReport(rank, node, Phase.begin, error=error)
        if report is None:
            error = f"rank {rank} has not been heard of for {LIMITS[Phase.root]:.0f} s; see the log"
            return RankReport(rank, node_of(rank, self.check.resources.tasks_per_node), Phase.begin, error=error)
        if self.report.error:
            return report
        return replace(report, error=f"stands in the phase {report.phase}; see the log")

    def _wait_until(self, condition: Callable[[], object], patience_s: float) -> bool:
        """Whether it comes true in time. Writing now and then makes a network file system show the files of others."""
        deadline, written = time.monotonic() + patience_s, time.monotonic()
        while not condition():
            if time.monotonic() > deadline or self.station.stop.is_set():
                return False
            if time.monotonic() - written > WRITES_EVERY_S and not self.report.error:
                self._tell()
                written = time.monotonic()
            time.sleep(POLL_S)
        return True


def _end_the_others() -> None:
    """End all ranks once this one has left: srun would wait for one that hangs until the job's time is over."""
    job, step = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_STEP_ID")
    if job and step:
        command = f"sleep {LEAVES_WITHIN_S:.0f}; scancel {job}.{step}"
        subprocess.Popen(["sh", "-c", command], stdin=subprocess.DEVNULL, start_new_session=True)


def _leave_even_if_a_thread_hangs() -> None:
    """A thread inside a driver may keep Python from ending."""
    timer = Timer(LEAVES_WITHIN_S, os._exit, [1])
    timer.daemon = True
    timer.start()
