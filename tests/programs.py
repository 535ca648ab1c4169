"""Programs for tests: `python -m MODULE ARGUMENTS`, forked from a process that has imported the libraries.

in:  the words of a command, its folder and its environment
out: what it prints, and its exit status

A new interpreter takes longer to import torch and transformers than a tiny experiment takes to run. Forked programs
begin at once; nothing of neurogen is imported before the fork. Tests of how a program begins, or of environment
variables that libraries read while they are imported, take a new interpreter.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

TIMEOUT_S = 600.0
LIBRARIES = [
    "deepspeed",
    "hydra.main",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "mlxtend.data",
    "peft",
    "rich.console",
    "rich.table",
    "scipy.optimize",
    "sklearn.datasets",
    "torch.utils.tensorboard",
    "torchvision.datasets",
    "transformers.models.llama.modeling_llama",
    "transformers.models.qwen2_vl.image_processing_qwen2_vl",
    "transformers.models.qwen2_vl.modeling_qwen2_vl",
]
os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")  # threads do not survive a fork
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(LIBRARIES)


class Forked:
    """A program that has begun, in a session of its own; the part of subprocess.Popen that tests need."""

    def __init__(self, words: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.outputs = tempfile.TemporaryDirectory()
        paths = [Path(self.outputs.name) / name for name in ("stdout", "stderr")]
        arguments = (words, folder, dict(environment), paths)
        self.process = FORKS.Process(target=become, args=arguments, daemon=True)
        self.process.start()
        assert self.process.pid is not None
        self.pid: int = self.process.pid

    def poll(self) -> int | None:
        """The exit status, negative after a signal; None while it runs."""
        return self.process.exitcode

    def wait(self, timeout: float = TIMEOUT_S) -> int:
        """The exit status. Raises TimeoutError, after killing the program, where it takes longer."""
        self.process.join(timeout)
        status = self.process.exitcode
        if status is None:
            self.send_signal(signal.SIGKILL)
            raise TimeoutError(f"the program {self.pid} has not ended after {timeout} s: {self.output()}")
        return status

    def communicate(self, timeout: float = TIMEOUT_S) -> tuple[str, str]:
        """(stdout, stderr) after its end."""
        self.wait(timeout)
        return self.output()

    def output(self) -> tuple[str, str]:
        """(stdout, stderr) so far."""
        stdout, stderr = (Path(self.outputs.name) / name for name in ("stdout", "stderr"))
        return stdout.read_text(encoding="utf-8"), stderr.read_text(encoding="utf-8")

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing where it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """As a scheduler does."""
        self.send_signal(signal.SIGTERM)


def become(words: list[str], folder: Path, environment: dict[str, str], outputs: list[Path]) -> None:
    """In the fork: `python -m WORDS` to its end."""
    os.setsid()
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[0] = str(folder)
    sys.argv[:] = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def run_forked(words: list[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`python -m WORDS` from beginning to end in a fork."""
    process = Forked(words, folder, environment)
    stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(words, process.wait(), stdout, stderr)


def run_new(words: list[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`python -m WORDS` from beginning to end in a new interpreter."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
    )
