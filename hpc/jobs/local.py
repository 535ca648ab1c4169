"""The graph of a sweep as processes of this machine.

in:  a sweep, and how many processes may run at a time
out: every step that can be done is done; each has a log in root/queue/local-KEY/

A step that fails stops only what depends on it. Whatever stops this process stops the steps as well: they save, and
nothing new begins. Of several GPUs every process sees the one on which the fewest others run.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from threading import Lock
from typing import IO, Any

from hpc.jobs.attempts import STOPPED
from hpc.jobs.files import open_to_append
from hpc.jobs.graph import Step, identity
from hpc.jobs.local_run import folder_of
from hpc.jobs.owned import shared_folder
from hpc.jobs.payload import Payload
from hpc.jobs.queue import Queue
from hpc.jobs.sweep import Sweep

VISIBLE = "CUDA_VISIBLE_DEVICES"


def run_locally(sweep: Sweep, num_parallel: int) -> None:
    """Run what is not done. Raises nothing for failed steps, and KeyboardInterrupt if this process is stopped."""
    queue = Queue(sweep.root)
    folder = folder_of(queue, sweep.last.key)
    shared_folder(queue.folder)
    folder.mkdir(exist_ok=True)
    sweep.write_configs()
    sweep.write_manifest()
    steps = {index: step for index, step in enumerate(sweep.steps) if not step.is_done}
    Payload.of(sweep, sweep.steps, max_requeues=0).write(folder)  # all: the same for a second command beside this one
    print(f"{len(sweep.configs)} points, {len(sweep.steps)} steps: {len(sweep.steps) - len(steps)} done", flush=True)
    with (
        ThreadPoolExecutor(num_parallel) as pool,
        _progress(len(steps)) as bar,
        Processes(sweep.environment, Devices(visible_gpus(os.environ))) as processes,
    ):
        try:
            _run_graph(steps, sweep, folder, pool, bar, processes)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run_graph(
    steps: Mapping[int, Step], sweep: Sweep, folder: Path, pool: ThreadPoolExecutor, bar: Any, processes: Processes
) -> None:
    """Run every step as soon as what it needs is done; skip it if that has failed. The last step runs in any case."""
    indices = {identity(step): index for index, step in steps.items()}
    needs = {
        index: {indices[identity(needed)] for needed in step.needs if identity(needed) in indices}
        for index, step in steps.items()
    }
    last_index = indices.get(identity(sweep.last))
    if last_index is not None:
        needs[last_index] = set(indices.values()) - {last_index}  # its table also names what failed
    graph = TopologicalSorter(needs)
    graph.prepare()
    running, failed = dict[Future[int], int](), set[int]()
    while graph.is_active():
        for index in graph.get_ready():
            if index != last_index and needs[index] & failed:
                failed.add(index)
                graph.done(index)
                bar.update()
            else:
                command = [sys.executable, "-u", "-m", "hpc", sweep.program, str(folder), str(index)]
                log = folder / f"{identity(steps[index])}.log"
                running[pool.submit(_run_step, command, log, steps[index], bar, processes)] = index
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in ended:
            index = running.pop(future)
            if future.result() != 0:
                failed.add(index)
            graph.done(index)
            bar.update()


def _progress(num_steps: int) -> Any:
    """A bar with the remaining time, if a terminal shows it."""
    from tqdm import tqdm

    return tqdm(total=num_steps, unit=" steps", dynamic_ncols=True, smoothing=0.05, disable=not sys.stderr.isatty())


def _run_step(command: list[str], log: Path, step: Step, bar: Any, processes: Processes) -> int:
    bar.write(f"  {step.kind} {step.label}: {log}")
    with open_to_append(log) as file:
        status = processes.run(command, file)
    if status:
        bar.write(f"  {step.kind} {step.label}: failed with status {status}, see {log}", file=sys.stderr)
    return status


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """The GPUs of this machine as CUDA_VISIBLE_DEVICES names them, or those of them that it names already."""
    given = environment.get(VISIBLE)
    if given is not None:
        return [name for name in given.split(",") if name]
    nvidia_smi = shutil.which("nvidia-smi")
    if nvidia_smi is None:
        return []
    listed = subprocess.run([nvidia_smi, "--list-gpus"], capture_output=True, encoding="utf-8", check=False)
    return [str(index) for index in range(listed.stdout.count("UUID: GPU-"))]


class Devices:
    """How many processes run on each GPU. Several threads may ask."""

    def __init__(self, names: Sequence[str]) -> None:
        self.running, self.lock = dict.fromkeys(names, 0), Lock()

    @contextmanager
    def least_busy(self) -> Iterator[dict[str, str]]:
        """Inside, a process runs on the GPU with the fewest others. Gives its variables, none without a choice."""
        if len(self.running) < 2:
            yield {}
            return
        with self.lock:
            name = min(self.running, key=self.running.__getitem__)
            self.running[name] += 1
        try:
            yield {VISIBLE: name}
        finally:
            with self.lock:
                self.running[name] -= 1


class Processes:
    """Inside, SIGINT and SIGTERM are passed on to all running processes, and raise KeyboardInterrupt here.

    A terminal's Ctrl-C reaches the processes by itself; any other signal reaches only this one.
    """

    def __init__(self, environment: Mapping[str, str], devices: Devices) -> None:
        self.environment, self.devices = {**os.environ, **environment}, devices
        self.running, self.is_stopped = set[subprocess.Popen[bytes]](), False

    def __enter__(self) -> Processes:
        self.before = {
            signal_number: signal.signal(signal_number, self._stop) for signal_number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *error: object) -> None:
        for signal_number, handler in self.before.items():
            signal.signal(signal_number, handler)

    def run(self, command: list[str], log: IO[bytes]) -> int:
        """The exit status of a process; several threads may call this. After a signal nothing begins."""
        if self.is_stopped:
            return STOPPED
        with (
            self.devices.least_busy() as device,
            subprocess.Popen(command, stdout=log, stderr=log, env=self.environment | device) as process,
        ):
            self.running.add(process)
            if self.is_stopped:  # the signal came while it began
                process.terminate()
            status = process.wait()
            self.running.remove(process)
        return status

    def _stop(self, signal_number: int, frame: object) -> None:
        self.is_stopped = True
        for process in list(self.running):
            process.terminate()
        raise KeyboardInterrupt
