"""A job's own notes."""

from __future__ import annotations

from pathlib import Path

from hpc.jobs.attempts import AttemptLog, attempts_of


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
