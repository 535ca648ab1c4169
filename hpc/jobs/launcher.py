"""From the points of a sweep to jobs: compose, merge, submit; then let go, or wait and return what was measured."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from hpc.errors import ClusterError
from hpc.jobs import scheduler
from hpc.jobs.cluster import cluster_from
from hpc.jobs.graph import identity
from hpc.jobs.job import payload_of
from hpc.jobs.preview import preview
from hpc.jobs.processes import Processes
from hpc.jobs.queue import Queue
from hpc.jobs.scheduler import require_slurm
from hpc.jobs.status import watch
from hpc.jobs.study import Study
from hpc.jobs.submission import Submitted, submit
from hpc.ranks.zero import require_installed

POLL_S = 5.0
LONGEST_POLL_S = 60.0


def launch(
    where: str, plan: str, configs: Sequence[Any], overrides: Sequence[Sequence[str]], cluster: Any, wait: bool
) -> list[JobReturn]:
    """Every point's JobReturn; with `wait` it has the point's figure. Local processes are always waited for."""
    wait = wait or where == "local"
    module, _, function = plan.rpartition(".")
    study: Study = getattr(importlib.import_module(module), function)(configs, overrides)
    site = cluster_from(dict(OmegaConf.to_container(OmegaConf.create(cluster), resolve=True)))  # type: ignore[arg-type]
    if study.dry_run:
        preview(study, site)
        study.show_estimates()
        wait = False
    elif where == "slurm":
        require_slurm()
        require_installed(study.zero)
        show(study, submit(study, site))
        if wait:
            wait_until_over(study)
    else:
        require_installed(study.zero)
        run_locally(study, site.array_parallelism)
    if wait:
        study.show()
    values = study.values() if wait else [None] * len(configs)
    return [
        returned(own, config, value, failed=wait and value is None)
        for own, config, value in zip(overrides, configs, values, strict=True)
    ]


def returned(overrides: Sequence[str], config: Any, value: float | None, failed: bool) -> JobReturn:
    """What a sweeper gets of a point. Hydra's own raises where one has failed; others may go on searching."""
    if not failed:
        return JobReturn(overrides=list(overrides), cfg=config, status=JobStatus.COMPLETED, _return_value=value)
    error = ClusterError(
        f"the point {' '.join(overrides)} is not done; see the table and the logs, the same command tries it again"
    )
    return FailedPoint(overrides=list(overrides), cfg=config, status=JobStatus.FAILED, _return_value=error)


class FailedPoint(JobReturn):
    @property
    def return_value(self) -> Any:
        """Raises, as Hydra's own does, which also prints a line: the error says it all."""
        raise self._return_value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._return_value = value


def show(study: Study, submitted: Submitted) -> None:
    """One line per kind of what was submitted, and where to look."""
    kinds: dict[str, list[int]] = {}
    for record in submitted.new:
        kinds.setdefault(record.kind, []).append(len(record.steps))
    print(
        f"{len(study.configs)} points, {len(study.steps)} steps: {len(submitted.done)} done, "
        f"{len(submitted.in_flight)} in the queue already, {sum(map(sum, kinds.values()))} submitted"
    )
    for kind, sizes in kinds.items():
        ids = ", ".join(str(record.job_id) for record in submitted.new if record.kind == kind)
        print(f"  {kind:10} {sum(sizes):4} steps in {len(sizes)} jobs: {ids}")
    codes = {record.code for record in submitted.in_flight.values()} - {submitted.code}
    others = sorted(code or "an older version's" for code in codes)
    if others:
        print(f"  of those in the queue already, some run other code than this submission's: {', '.join(others)}")
    print(f"results      {study.last.folder}\nstatus       python -m neurogen.status {study.last.folder}")


def wait_until_over(study: Study) -> None:
    """Stay until the last step has ended; raises nothing for what failed, which the table says."""
    before = ""
    for overview in watch(study.last.folder, POLL_S, LONGEST_POLL_S):
        if overview.line() != before:
            before = overview.line()
            print(f"  {before}", flush=True)
        if not overview.is_over:
            scheduler.cancel(overview.stuck)  # or the last step, which waits for them, would wait for ever too


def run_locally(study: Study, parallel: int) -> None:
    """The graph as processes of this machine; one step's failure stops only what hangs on it.

    What stops this process stops them as well: they save, and nothing new begins.
    """
    place = Queue(study.root).place(f"local-{study.last.key}")
    place.mkdir(parents=True, exist_ok=True)
    study.write_manifest()
    steps = [step for step in study.steps if not step.is_done]
    payload_of(study, steps, max_requeues=0).write(place)
    print(f"{len(study.configs)} points, {len(study.steps)} steps: {len(study.steps) - len(steps)} done", flush=True)
    failed: set[str] = set()
    left, running, processes = dict(enumerate(steps)), dict[Future[int], int](), Processes()
    with ThreadPoolExecutor(parallel) as pool, _progress(len(steps)) as bar, processes:
        try:
            while left or running:
                for index, step in list(left.items()):
                    needs = {identity(needed) for needed in step.needs}
                    if step is study.last:
                        if len(left) > 1 or running:
                            continue  # it also tells what failed
                    elif needs & failed:
                        failed.add(identity(step))
                        del left[index]
                        bar.update()
                        continue
                    if step is study.last or all(needed.is_done for needed in step.needs):
                        running[pool.submit(_process, place, index, step, bar, processes)] = index
                        del left[index]
                done, _ = wait_for(running, return_when=FIRST_COMPLETED)
                for future in done:
                    step = steps[running.pop(future)]
                    bar.update()
                    if future.result() != 0:
                        failed.add(identity(step))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _progress(num_steps: int) -> Any:
    """A bar with the remaining time, where somebody sees it."""
    from tqdm import tqdm

    return tqdm(total=num_steps, unit=" steps", dynamic_ncols=True, smoothing=0.05, disable=not sys.stderr.isatty())


def _process(place: Path, index: int, step: Any, bar: Any, processes: Processes) -> int:
    log = place / f"{identity(step)}.log"
    bar.write(f"  {step.kind} {step.label}: {log}")
    with log.open("ab") as file:
        status = processes.run([sys.executable, "-u", "-m", "hpc", str(place), str(index)], file)
    if status:
        bar.write(f"  {step.kind} {step.label}: failed with status {status}, see {log}", file=sys.stderr)
    return status
