"""A job's own notes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hpc.jobs.answer import Answer
from hpc.jobs.attempts import STOPPED, Attempt, AttemptLog, attempts_of
from hpc.jobs.queue import Queue, new_record
from hpc.jobs.view import QueueView


def test_attempts_that_other_versions_noted_are_read(tmp_path: Path) -> None:
    (tmp_path / "attempt-0-1.json").write_text(
        '{"started": 1, "ended": 3, "exit_status": 1, "message": "", "node": "n1"}'
    )
    (attempt,) = attempts_of(tmp_path, 0)
    assert attempt.seconds == 2
    assert not attempt.requeued


def test_the_first_rank_that_notices_notes_why_an_attempt_ended(tmp_path: Path) -> None:
    log = AttemptLog(tmp_path, 0)
    log.write(log.attempt)
    other = AttemptLog(tmp_path, 0)
    assert other.write_lost("rank 1 is gone")
    assert not log.write_lost("rank 2 is gone")
    (attempt,) = attempts_of(tmp_path, 0)
    assert (attempt.exit_status, attempt.message) == (1, "rank 1 is gone")


def test_the_newest_attempt_is_known_though_clocks_differ(tmp_path: Path) -> None:
    """The first one ran on a node whose clock is ten minutes ahead."""
    ahead = AttemptLog(tmp_path, 0)
    ahead.write(replace(ahead.attempt, started=ahead.attempt.started + 600, exit_status=STOPPED))
    right = AttemptLog(tmp_path, 0)
    right.write(right.attempt)
    assert [attempt.exit_status for attempt in attempts_of(tmp_path, 0)] == [STOPPED, None]
    assert right.write_lost("rank 1 is gone")
    assert [attempt.exit_status for attempt in attempts_of(tmp_path, 0)] == [STOPPED, 1]


def test_the_steps_of_an_array_have_their_own_notes(tmp_path: Path) -> None:
    """Of eleven steps, all of whose notes lie in one folder, which is listed once."""
    queue = Queue(tmp_path)
    record = new_record("batch", "tune", [(f"tune-{index}", "x", Path("/x")) for index in range(11)])
    for started, index in enumerate((1, 10, 10)):
        AttemptLog(queue.batch_folder("batch"), index).write(Attempt(float(started), 9.0, 0, ""))
    view = QueueView(queue, Answer({}, {}, None))
    assert [len(view.attempts(record, f"tune-{index}")) for index in (0, 1, 10)] == [0, 1, 2]
    AttemptLog(queue.batch_folder("batch"), 0).write(Attempt(0.0, 9.0, 0, ""))
    assert view.attempts(record, "tune-0") == []
    assert len(QueueView(queue, Answer({}, {}, None)).attempts(record, "tune-0")) == 1
