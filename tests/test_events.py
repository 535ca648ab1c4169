"""TensorBoard's event files where they cannot be written."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neurogen.errors import UserError
from neurogen.events import WRITERS, Events


@contextmanager
def no_room() -> Iterator[None]:
    """Inside, no file can grow."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def events_whose_thread_has_ended(folder: Path) -> Events:
    events = Events(folder)
    for thread in threading.enumerate():
        if type(thread).__module__ == WRITERS:
            thread.join()
    return events


@pytest.mark.filterwarnings("error")  # pytest makes a warning of a thread's traceback
def test_a_disk_that_fails_at_once_is_one_error(tmp_path: Path) -> None:
    """The thread that writes meets it before anything is added."""
    with pytest.raises(UserError, match=r"cannot write .* File too large"):  # noqa: PT012
        with no_room():
            events = events_whose_thread_has_ended(tmp_path)
        with events, events.adding() as writer:
            writer.add_scalar("a", 1, 0)


def test_event_files_that_overlap_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads of a program that train at once close their files in any order."""
    monkeypatch.setattr(threading, "excepthook", before := lambda _: None)  # without what an error before left
    first, second = Events(tmp_path / "1"), Events(tmp_path / "2")
    assert threading.excepthook is not before
    with first:
        pass
    assert threading.excepthook is not before  # the second one is open
    with second:
        pass
    assert threading.excepthook is before


def test_a_hook_of_another_program_between_two_event_files_is_called_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It calls the hook that it met, which is that of the first file."""
    ends = list[str]()
    monkeypatch.setattr(threading, "excepthook", lambda _: ends.append("before"))
    with Events(tmp_path / "1"):
        inner = threading.excepthook

        def other(end: threading.ExceptHookArgs) -> None:
            ends.append("other")
            inner(end)

        monkeypatch.setattr(threading, "excepthook", other)
        with Events(tmp_path / "2"):
            threading.excepthook(threading.ExceptHookArgs((ValueError, None, None, threading.current_thread())))
    assert ends == ["other", "before"]
