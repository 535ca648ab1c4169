"""What the user can mend ends in one line; a defect shows its traceback."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurogen.errors import errors_in_one_line

TOO_MUCH = 2**55  # bytes, more than any address space has


def ended(capsys: pytest.CaptureFixture[str], program: object) -> str:
    """What is printed when `program` cannot have its memory."""
    assert callable(program)
    with pytest.raises(SystemExit) as stop, errors_in_one_line():
        program()
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_want_of_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for program in (lambda: np.zeros(TOO_MUCH, np.uint8), lambda: torch.zeros(TOO_MUCH, dtype=torch.uint8)):
        line = ended(capsys, program)
        assert line.startswith("error: there is not enough memory (")
        assert "lower dataset.limit" in line


def test_a_defect_is_no_error_of_the_users() -> None:
    with pytest.raises(RuntimeError, match="a defect"), errors_in_one_line():
        raise RuntimeError("a defect")
