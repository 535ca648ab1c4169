"""What a status says of a sweep. squeue is a small script here, which answers, refuses or hangs."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import re
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc.errors import Unanswered
from hpc.jobs import answer
from hpc.jobs.attempts import Attempt, AttemptLog
from hpc.jobs.diagnosis import setting_to_raise
from hpc.jobs.graph import Step, identity
from hpc.jobs.queue import Queue, new_record
from hpc.jobs.script import log_path
from hpc.jobs.status import Overview, StepStatus, cancel, watch
from hpc.jobs.sweep import MANIFEST, Sweep
from neurogen.status import LINES_OF_A_LOG
from tests.conftest import Program, error_line
from tests.hpc.conftest import Composed, sweep_of

HANGS = "exec sleep 60"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
Squeue = Callable[[str], None]


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Squeue:
    """squeue("SCRIPT"): what squeue is from now on. There is no accounting."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(answer, "PATIENCE_S", 1.0)
    (folder / "sacct").write_text("#!/bin/sh\nexit 1\n")
    (folder / "sacct").chmod(0o755)

    def become(script: str) -> None:
        (folder / "squeue").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "squeue").chmod(0o755)

    return become


@pytest.fixture
def sweep(experiment: Composed, tmp_path: Path) -> Sweep:
    """Six steps, each submitted as a job of its own 200 s ago: reference is job 1, classical job 2, …"""
    new = sweep_of(lambda: experiment(f"root={tmp_path}/runs"), tmp_path / "runs")
    new.write_manifest()
    queue, before = Queue(new.root), list[Step]()
    for number, step in enumerate(new.steps, start=1):
        needs = [identity(needed) for needed in step.needs]
        after = [other.kind for other in before]
        record = new_record(step.kind, step.kind, [(identity(step), step.label, step.folder)], after, needs)
        queue.write(dataclasses.replace(record, job_id=str(number), submitted=time.time() - 200))
        before.append(step)
    return new


def note(sweep: Sweep, kind: str, status: int | None, message: str = "", age_s: float = 100) -> None:
    """An attempt that gave its last sign of life `age_s` ago."""
    log = AttemptLog(Queue(sweep.root).batch_folder(kind), 0)
    now = time.time()
    log.write(Attempt(now - age_s - 60, 0.0 if status is None else now - age_s, status, message))
    (path,) = log.folder.glob("attempt-*")
    os.utime(path, (now - age_s, now - age_s))


def line(job: int, kind: str, state: str, reason: str = "None", node: str = "n1") -> str:
    """Of squeue, as a command of the shell."""
    return f"echo '{job}|N/A|{state}|0:07|{reason}|{node}|{kind}'"


def by_kind(sweep: Sweep) -> dict[str, StepStatus]:
    return {step.kind: step for step in Overview.of(sweep.last.folder).steps}


def test_without_the_scheduler_files_tell_what_they_can(sweep: Sweep, squeue: Squeue) -> None:
    """One is done, one has failed and took its dependants with it, one gives signs of life, of one nobody knows."""
    squeue(HANGS)
    reference = sweep.steps[0]
    reference.marker.parent.mkdir(parents=True)
    reference.marker.touch()
    note(sweep, "classical", None)
    note(sweep, "inject", 1, "the loss is nan")
    note(sweep, "evaluate", None, age_s=7200)
    note(sweep, "sweeps", 0)
    (tune,) = (step for step in sweep.steps if step.kind == "tune")
    (sweep.root / "queue" / "tune.cancelled").write_text("needs inject-0\n")
    overview = Overview.of(sweep.last.folder)
    assert {step.kind: (str(step.state), step.reason) for step in overview.steps} == {
        "reference": ("done", ""),
        "classical": ("running", "sign of life 2 min ago"),
        "inject": ("failed", "the loss is nan"),
        "tune": ("failed", f"needs {tune.needs[0].kind}-{tune.needs[0].key}"),
        "evaluate": ("unknown", "last sign of life 2 h ago; only the scheduler knows more"),
        "sweeps": ("unknown", "by its own note done 2 min ago; only the scheduler knows more"),
    }
    assert overview.silence == "squeue: no answer within 1 s"
    assert (overview.as_of, overview.is_over, overview.stuck) == (None, False, ())


@pytest.mark.parametrize("silence", [HANGS, "echo 'Unable to contact slurm controller' >&2; exit 1", "exit 1"])
def test_the_last_answer_is_kept_for_a_status_that_gets_none(sweep: Sweep, squeue: Squeue, silence: str) -> None:
    """With its age. A job that was put back has no life though it gave signs of it before; one that began since has."""
    lines = [line(1, "reference", "RUNNING"), line(2, "classical", "PENDING", "Resources", "")]
    lines += [line(3, "inject", "PENDING", "BeginTime", ""), line(4, "tune", "OUT_OF_MEMORY")]
    squeue("; ".join(lines))
    note(sweep, "inject", None)
    assert Overview.of(sweep.last.folder).silence == ""
    (kept,) = (sweep.root / "queue").glob(answer.FILES)
    values = json.loads(kept.read_text()) | {"as_of": time.time() - 600}
    kept.write_text(json.dumps(values))
    squeue(silence)
    steps = by_kind(sweep)
    assert {kind: (str(step.state), step.reason) for kind, step in steps.items() if kind != "sweeps"} == {
        "reference": ("running", "n1, as of 10 min ago"),
        "classical": ("pending", "Resources, as of 10 min ago"),
        "inject": ("running", "sign of life 2 min ago"),
        "tune": ("failed", "out of memory: raise cluster.steps.tune.mem_gb"),
        "evaluate": ("unknown", "submitted 3 min ago; only the scheduler knows more"),
    }
    kept.write_text(json.dumps(values | {"as_of": time.time() - 5}))
    assert by_kind(sweep)["inject"].state == "pending"


def test_a_job_that_waits_for_another_one_says_so(sweep: Sweep, squeue: Squeue) -> None:
    """As long as the end of its log does: its lock may be that of a node that has died."""
    squeue(line(1, "reference", "RUNNING"))
    waits = "waiting: another process works on /runs/reference/1"
    log = Queue(sweep.root).batch_folder("reference") / "1_0_log.out"
    log.parent.mkdir(exist_ok=True)
    for text, reason in ((f"reference-1 on n1\n  {waits}\n", f"n1, {waits}"), ("  going on\n", "n1")):
        with log.open("a", encoding="utf-8") as file:
            file.write(text)
        assert by_kind(sweep)["reference"].reason == reason


def test_a_finished_sweep_asks_nobody(sweep: Sweep, squeue: Squeue) -> None:
    squeue(HANGS)
    for step in sweep.steps:
        step.marker.parent.mkdir(parents=True, exist_ok=True)
        step.marker.touch()
    assert Overview.of(sweep.last.folder).silence == ""


def test_nobody_is_asked_about_a_job_without_an_id(sweep: Sweep, squeue: Squeue, tmp_path: Path) -> None:
    """A submission was interrupted; accounting takes no other ids than numbers."""
    squeue("exit 0")
    sacct = tmp_path / "bin" / "sacct"
    sacct.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    queue = Queue(sweep.root)
    (record,) = (record for record in queue.records() if record.kind == "tune")
    queue.write(dataclasses.replace(record, job_id=None))
    assert by_kind(sweep)["tune"].job == ""
    assert (tmp_path / "asked").read_text().rstrip().endswith("--jobs=1,2,3,5,6")


def test_what_another_account_left_without_an_id_waits_or_runs(sweep: Sweep, squeue: Squeue) -> None:
    """Its submission was interrupted after SLURM had taken the job. Nothing of it is cancelled."""
    squeue("; ".join([line(1, "reference", "RUNNING"), line(3, "inject", "PENDING", "DependencyNeverSatisfied")]))
    queue = Queue(sweep.root)
    for record in queue.records():
        if record.kind in ("reference", "inject"):
            queue.write(dataclasses.replace(record, job_id=None))
    states, overview = by_kind(sweep), Overview.of(sweep.last.folder)
    assert (states["reference"].state, states["reference"].job, states["reference"].log) == ("running", "", "")
    assert overview.stuck == ()


def test_a_job_that_refuses_before_python_says_why(sweep: Sweep, squeue: Squeue) -> None:
    """Its script has looked at the folder of the code."""
    squeue(line(4, "tune", "FAILED"))
    queue = Queue(sweep.root)
    (record,) = (record for record in queue.records() if record.kind == "tune")
    log = log_path(record, queue.batch_folder(record.name), 0)
    log.write_text(
        "a prolog\nerror: n1: runs/code-0 is not the folder that only this account may enter; submit again\n"
    )
    assert by_kind(sweep)["tune"].reason.startswith("n1: runs/code-0 is not the folder")


def test_an_answer_is_as_old_as_the_question(sweep: Sweep, squeue: Squeue, tmp_path: Path) -> None:
    """What a job has noted since then is news."""
    squeue(f"date +%s.%N > {tmp_path}/asked; sleep 0.3; {line(1, 'reference', 'PENDING', 'Resources', '')}")
    as_of = Overview.of(sweep.last.folder).as_of
    assert as_of is not None
    assert as_of <= float((tmp_path / "asked").read_text(encoding="utf-8"))


def test_a_status_is_not_kept_where_it_may_not_be(sweep: Sweep, squeue: Squeue) -> None:
    """It is shown all the same: the file is a folder here, since root may write everywhere."""
    squeue(line(1, "reference", "RUNNING"))
    (sweep.root / "queue" / f"answer-{os.geteuid()}.json").mkdir()
    assert by_kind(sweep)["reference"].state == "running"


def test_nothing_is_cancelled_that_the_scheduler_does_not_know(sweep: Sweep, squeue: Squeue) -> None:
    squeue("echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(Unanswered, match="Unable to contact slurm controller; nothing was cancelled, try again"):
        cancel(sweep.last.folder)


@pytest.mark.parametrize("is_own", [True, pytest.param(False, marks=needs_root)])
def test_what_an_interrupted_submission_left_is_cancelled_or_named(
    sweep: Sweep, squeue: Squeue, tmp_path: Path, is_own: bool
) -> None:
    """SLURM had taken the job, and its id is not on record; that of another account stays."""
    squeue(line(4, "tune", "RUNNING"))
    (tmp_path / "bin" / "scancel").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/cancelled\n')
    (tmp_path / "bin" / "scancel").chmod(0o755)
    queue = Queue(sweep.root)
    (record,) = (record for record in queue.records() if record.kind == "tune")
    queue.write(dataclasses.replace(record, job_id=None))
    if not is_own:
        os.chown(queue.batch_folder("tune"), 4711, 4711)
    cancelled = cancel(sweep.last.folder)
    assert (tmp_path / "cancelled").exists() == is_own
    expected = [record.steps[0]]
    assert (cancelled.taken_out, cancelled.foreign) == ((expected, []) if is_own else ([], expected))


def test_watching_goes_on_while_the_scheduler_is_silent(sweep: Sweep, squeue: Squeue) -> None:
    """Nothing waits or runs as far as anybody knows; only the scheduler can say that all is over."""
    squeue("exit 1")
    overviews = watch(sweep.last.folder, pause_s=0.01)
    lines = [next(overviews).line() for _ in range(3)]
    assert lines == ["6 unknown; the scheduler does not answer"] * 3
    squeue("exit 0")
    assert [overview.line() for overview in overviews] == ["6 unknown"] * 2


def test_what_needs_a_failed_step_names_the_first_cause(sweep: Sweep, squeue: Squeue) -> None:
    """Also where SLURM cancelled it without a word, and where several steps lie between."""
    squeue("; ".join(line(job, kind, "CANCELLED") for job, kind in ((3, "inject"), (4, "tune"), (5, "evaluate"))))
    note(sweep, "reference", 1, "a long story")
    note(sweep, "sweeps", 3, "1 of 1 evaluations are missing")
    steps = by_kind(sweep)
    cause = steps["reference"].identity
    assert steps["reference"].cause == ""
    for kind in ("inject", "tune", "evaluate"):
        assert (steps[kind].reason, steps[kind].cause) == (f"needs {cause}", cause)
    assert (steps["sweeps"].reason, steps["sweeps"].cause) == ("1 of 1 evaluations are missing", cause)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ("gpu-a-03", "gpu-a-03 failed; run again leaves it out"),
        ("n[1-2]", "one of n[1-2] failed; run again takes those that are up"),
        ("n1,gpu-a-03", "one of n1,gpu-a-03 failed; run again takes those that are up"),
    ],
)
def test_of_several_nodes_nobody_says_which_one_failed(sweep: Sweep, squeue: Squeue, node: str, reason: str) -> None:
    squeue(line(4, "tune", "NODE_FAIL", node=node))
    assert by_kind(sweep)["tune"].reason == reason


def test_the_first_cause_stands_once_at_the_top(sweep: Sweep, squeue: Squeue, program: Program) -> None:
    squeue("; ".join(line(job, kind, "CANCELLED") for job, kind in ((3, "inject"), (4, "tune"), (5, "evaluate"))))
    note(sweep, "reference", 1, "a long story")
    cause = by_kind(sweep)["reference"].identity
    shown = program("status", str(sweep.last.folder)).stdout
    assert shown.splitlines()[1] == f"{cause} failed: a long story"
    assert shown.count("a long story") == 1
    assert shown.count(f"needs {cause}") == 3


@pytest.mark.parametrize("words", [[], ["--failed"]])
def test_texts_of_others_are_shown_and_not_obeyed(
    sweep: Sweep, squeue: Squeue, program: Program, words: list[str]
) -> None:
    """In a shared root a message, a label, a log and a command may be anybody's."""
    squeue(line(1, "reference", "FAILED"))
    escape = "\x1b]52;c;AAAA\x07\x9b2J\u202e"
    note(sweep, "reference", 1, f"a long story{escape}")
    manifest = sweep.last.folder / MANIFEST
    manifest.write_text(manifest.read_text().replace("digits", f"digits{json.dumps(escape)[1:-1]}"))
    (record, *_) = Queue(sweep.root).records()
    log_path(record, Queue(sweep.root).batch_folder("reference"), 0).write_text(f"a line{escape}\n")
    shown = program("status", str(sweep.last.folder), *words).stdout
    assert "a long story�]52;c;AAAA��2J�" in shown
    assert "digits�" in shown
    assert ("a line�" in shown) == bool(words)
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown)


def test_failed_steps_are_shown_with_their_logs_and_what_to_do(sweep: Sweep, squeue: Squeue, program: Program) -> None:
    squeue("; ".join([line(1, "reference", "OUT_OF_MEMORY"), line(3, "inject", "CANCELLED")]))
    (record, *_) = Queue(sweep.root).records()
    log = log_path(record, Queue(sweep.root).batch_folder("reference"), 0)
    log.write_text("".join(f"line {number}\n" for number in range(2**16)))
    shown = program("status", str(sweep.last.folder), "--failed").stdout
    assert re.search(
        r"^reference-\w+ \(digits.*\) failed: out of memory: raise cluster.steps.reference.mem_gb$", shown, re.M
    )
    assert [line.strip() for line in shown.splitlines() if line.startswith("    line ")] == [
        f"line {number}" for number in range(2**16 - LINES_OF_A_LOG, 2**16)
    ]
    assert "  1 steps need it" in shown
    assert re.search(r"^    cd .* && .* cluster\.steps\.reference\.mem_gb=MORE$", shown, re.M), shown
    (sweep.root / "queue" / "reference" / "record.json").unlink()
    (sweep.root / "queue" / "inject" / "record.json").unlink()
    assert program("status", str(sweep.last.folder), "--failed").stdout.endswith("nothing has failed\n")


@pytest.mark.parametrize(
    ("reason", "setting"),
    [
        ("out of memory: raise cluster.steps.tune.mem_gb", "cluster.steps.tune.mem_gb"),
        ("out of time, as often as cluster.max_requeues allows", "cluster.steps.tune.timeout_min"),
        ("the loss is nan", ""),
    ],
)
def test_what_to_raise_is_known(reason: str, setting: str) -> None:
    assert setting_to_raise("tune", reason) == setting


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--watch", "--json"], "argument --json: not allowed with argument --watch"),
        (["a", "b"], "unrecognized arguments: b"),
        (["--colour"], "unrecognized arguments: --colour"),
        (["a"], "a is no folder of a sweep"),
    ],
)
def test_a_wrong_word_is_refused_in_one_line(program: Program, words: list[str], message: str) -> None:
    assert message in error_line(program("status", *words))


def test_a_watched_sweep_is_redrawn_in_place(sweep: Sweep, squeue: Squeue, tmp_path: Path) -> None:
    """On the other screen of the terminal, in the 12 rows that it has; the last tables stay behind."""
    squeue(
        f"[ -e {tmp_path}/over ] && exit 0; "
        + "; ".join(line(n, step.kind, "RUNNING") for n, step in enumerate(sweep.steps, 1))
    )
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (12, 100))
    command = [sys.executable, "-m", "neurogen.status", "--watch", str(sweep.last.folder)]
    size = ("COLUMNS", "LINES")  # the terminal says it
    environment = {name: value for name, value in os.environ.items() if name not in size}
    environment |= {"NEUROGEN_POLL_S": "0.05", "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=theirs, env=environment)
    os.close(theirs)
    raw = b""
    while chunk := read(ours):
        raw += chunk
        if b"reference" in raw:
            (tmp_path / "over").touch()
    assert process.wait() == 0
    text = raw.decode()
    before, _, rest = text.partition("\x1b[?1049h")
    drawn, _, left = rest.partition("\x1b[?1049l")
    assert "reference" not in before
    frames = drawn.split("\x1b[H")[1:]
    assert len(frames) >= 2
    assert all(frame.count("\n") < 12 for frame in frames)
    assert all(step.kind in left for step in sweep.steps)


def read(terminal: int) -> bytes:
    """What is shown on a terminal; empty when its program has ended."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
