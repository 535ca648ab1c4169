"""What the user can mend ends in one line; a defect shows its traceback."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurogen.errors import UserError, errors_in_one_line, saying_what_saves_memory, some_of

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


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of …"),
            "CUDA out of memory. Tried to allocate 2.00 GiB",
        ),
        (RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"), "CUDA error: out of memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling …"), "CUBLAS_STATUS_ALLOC_FAILED"),
        (MemoryError("Unable to allocate 2.00 GiB"), "Unable to allocate 2.00 GiB"),
    ],
)
def test_want_of_memory_comes_with_advice(error: Exception, said: str) -> None:
    expected = pytest.raises(UserError, match=r"^tune x: there is not enough memory \(.*\); lower y$")
    with expected as caught, saying_what_saves_memory("tune x", "lower y"):
        raise error
    assert said in str(caught.value)
    assert "total capacity" not in str(caught.value)


def test_a_defect_comes_without_advice() -> None:
    with pytest.raises(RuntimeError, match="a defect"), saying_what_saves_memory("tune x", "lower y"):
        raise RuntimeError("a defect")


def test_of_many_items_a_message_names_some() -> None:
    assert some_of(["a", "b"]) == "a, b"
    assert some_of(range(1600), most=3) == "0, 1, 2 and 1,597 more"
    assert some_of([]) == ""
