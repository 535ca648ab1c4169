"""Run an experiment: config in, finished table out. The only module that imports Hydra.

python -m neurogen.run                            the demo
python -m neurogen.run dataset=cifar10 target=cnn
python -m neurogen.run --help
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import OmegaConf
from yaml import YAMLError

from hpc.errors import ClusterError
from neurogen.arguments import for_hydra
from neurogen.errors import Interrupted, UserError, errors_in_one_line, one_line

if TYPE_CHECKING:
    from hpc.jobs.sweep import Sweep
    from hpc.ranks.distributed import Placement
    from neurogen.config import Experiment
    from neurogen.study.pipeline import Aggregate
    from neurogen.training.runtime import Runtime

INTERRUPTED = 130


def _register() -> None:
    """What conf/ needs: our plugins, which Hydra does not find in an editable install, and `${choose:key,{…}}`."""
    plugins = Plugins.instance()  # first, since it runs the modules anew that the classes of ours derive from
    from hydra_plugins.neurogen_launcher import StudyLocalLauncher, StudySlurmLauncher
    from hydra_plugins.neurogen_sweeper import StudySweeper

    for plugin in (StudySlurmLauncher, StudyLocalLauncher, StudySweeper):
        plugins.register(plugin)
    OmegaConf.register_new_resolver("choose", lambda key, options: options[key], replace=True)


_register()


def main() -> None:
    """The command: errors of the user's in one line, exit status 1; interrupted, 130."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands exceptions on instead of printing its own summary
    with errors_in_one_line(HydraException, YAMLError, ClusterError, explain=_explained):
        sys.argv[:] = for_hydra(sys.argv)
        try:
            compose_and_run()
        except KeyboardInterrupt:  # of a sweep; its processes were told too
            _say_stopped()
            sys.exit(INTERRUPTED)


def conf_folder() -> str:
    """conf/ inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "conf"
    return str(installed if installed.is_dir() else package.parent / "conf")


@hydra.main(version_base="1.3", config_path=conf_folder(), config_name="config")
@errors_in_one_line(ClusterError)  # in here too, before Hydra reports the exception in its own words
def compose_and_run(composed: Any) -> None:
    from hpc.ranks.distributed import Placement
    from neurogen.experiment import experiment_from
    from neurogen.report.terminal import show

    experiment = experiment_from(composed)
    placement, stop = Placement.from_environment(os.environ), Event()
    _stop_on_signals(stop)
    try:
        last = run_experiment(experiment, stop)
    except (Interrupted, KeyboardInterrupt):
        if placement.rank != 0:
            return  # rank 0 says so
        _say_stopped()
        sys.exit(INTERRUPTED)
    if last is not None and last.is_done and placement.rank == 0:
        show(last)


def run_experiment(experiment: Experiment, stop: Event) -> Aggregate | None:
    """Do the steps that are not done, in this process, which may be one rank of several; returns the last step.

    With dry_run=true, print what it would cost, do nothing, and return None.
    Raises Interrupted when `stop` is set and everything needed to go on is saved.
    """
    from hpc.ranks.distributed import Placement
    from neurogen.study.graph import steps_of
    from neurogen.study.pipeline import chosen, run_here

    if experiment.dry_run:
        _show_estimate(experiment)
        return None
    last = steps_of([experiment])
    steps = chosen(last, experiment.only, experiment.part, experiment.num_parts)
    placement = Placement.from_environment(os.environ)
    if placement.size > 1 or not all(step.is_done for step in steps):
        with runtime_of(experiment, placement, stop) as runtime:
            run_here(steps, runtime)
    return last


def compose(overrides: Sequence[str]) -> Experiment:
    """The experiment that these words of the command line describe. Raises UserError as the command does."""
    from neurogen.experiment import experiment_from

    with user_errors(), hydra.initialize_config_dir(conf_folder(), version_base="1.3"):
        return experiment_from(hydra.compose("config", list(overrides)))


@contextmanager
def user_errors() -> Iterator[None]:
    """What the command explains in one line becomes a UserError with that line."""
    try:
        yield
    except (HydraException, YAMLError, ClusterError) as error:
        raise UserError(_explained(error)) from error


def _show_estimate(experiment: Experiment) -> None:
    from neurogen.cost.estimate import estimate
    from neurogen.cost.scaling import plans_of
    from neurogen.report.terminal import show_estimate

    cost = estimate(experiment)
    show_estimate(experiment, cost, plans_of(cost, experiment))


def _say_stopped() -> None:
    print("\nstopped; the same command continues where this one ended", file=sys.stderr)


def runtime_of(experiment: Experiment, placement: Placement, stop: Event) -> AbstractContextManager[Runtime]:
    """This process, or one rank of those that torchrun or srun started together; `stop` is its stop flag."""
    from hpc.ranks.distributed import runtime_of_ranks
    from hpc.ranks.zero import zero_from
    from neurogen.generator.pretrained import require_usable

    require_usable(experiment.backbone)
    return runtime_of_ranks(make_runtime_of(experiment), zero_from(experiment.zero), placement, stop)


def make_runtime_of(experiment: Experiment) -> Callable[[], Runtime]:
    """What makes the runtime, to be pickled for other processes. It imports torch only when it is called."""
    return partial(_runtime_here, experiment.device, experiment.num_threads, experiment.gpu.peak_tflops)


def _runtime_here(device: str, num_threads: int, peak_tflops: float | None) -> Runtime:
    from neurogen.training.runtime import runtime_here

    return runtime_here(device, num_threads, peak_tflops)


def plan(composed: Sequence[Any], overrides: Sequence[Sequence[str]]) -> Sweep:
    """The points of a sweep as one graph, for a launcher of hpc. Raises UserError for the first that cannot work."""
    from hpc.jobs.cluster import cluster_from
    from hpc.jobs.sweep import Sweep
    from hpc.ranks.zero import zero_from
    from neurogen.experiment import BUILT_INS, experiment_from, named_function, require_shares
    from neurogen.store import commit_here
    from neurogen.study.graph import steps_of

    experiments = [experiment_from(point) for point in composed]
    first = experiments[0]
    for e in experiments:
        if e.only is not None or e.num_parts != 1:
            given = f"only={e.only} part={e.part} num_parts={e.num_parts}"
            raise UserError(f"{given} choose among the steps of a single run; a sweep does them all: leave them out")
    functions = {e.dataset.load: "dataset.load" for e in experiments} | {
        target.build: "target.build" for e in experiments for target in (e.target, e.source) if target is not None
    }
    for function, key in functions.items():
        if function not in BUILT_INS[key]:  # importing those takes seconds
            named_function(key, function)  # what cannot be imported here, no job could import
    site = cluster_from(first.cluster)
    for e in experiments:
        stages = [("inject", "inject", e.recipe.inject), ("tune", "tune", e.recipe.tune)]
        stages += [("adapt", "tune", e.recipe.adapt)] if e.held_out else []
        for name, kind, stage in stages:
            require_shares(name, stage, site.resources(kind).num_ranks)
    return Sweep(
        last=steps_of(experiments),
        root=Path(first.root),
        make_runtime=make_runtime_of(first),
        interrupted=Interrupted,
        refused=UserError,
        packages=tuple(sorted({"neurogen", "hpc", *(name.split(".")[0] for name in functions if "." in name)})),
        configs=tuple(OmegaConf.to_yaml(point, resolve=True) for point in composed),
        overrides=tuple(tuple(own) for own in overrides),
        values=lambda: _accuracies(experiments),
        zero=zero_from(first.zero),
        commit=commit_here(),
        dry_run=first.dry_run,
        show_estimates=lambda: _show_estimates(experiments),
        show=lambda: _show(experiments),
    )


def _accuracies(experiments: Sequence[Experiment]) -> list[float | None]:
    from neurogen.aggregate import accuracies_of
    from neurogen.study.graph import evaluations_of

    return accuracies_of(evaluations_of(experiments))


def _show(experiments: Sequence[Experiment]) -> None:
    """The table, also of a part of the points; nothing where no table could be made."""
    from neurogen.report.terminal import show
    from neurogen.study.graph import steps_of

    last = steps_of(experiments)
    if (last.folder / "results.json").exists():
        show(last)


def _show_estimates(experiments: Sequence[Experiment]) -> None:
    """A table for every kind of point, and the hours of all stages, each counted once."""
    from neurogen.cost.estimate import Estimate, estimate
    from neurogen.cost.scaling import plans_of
    from neurogen.report.terminal import show_estimate
    from neurogen.study.graph import evaluations_of

    known: dict[str, Estimate] = {}
    hours: dict[tuple[str, str], float] = {}  # by stage, and by task where several share it
    for e, evaluation in zip(experiments, evaluations_of(experiments), strict=True):
        stages = [(one.steps, one.epochs, one.contexts_per_step) for one in (e.recipe.inject, e.recipe.tune)]
        alike = repr((e.dataset, e.target, e.source, e.backbone, e.generator, e.gpu, stages, e.recipe.tune.batch_size))
        if alike not in known:
            known[alike] = estimate(e)
            show_estimate(e, known[alike], plans_of(known[alike], e))
        for stage in evaluation.tune.stages:
            cost = known[alike].inject if stage.kind == "inject" else known[alike].tune
            task = evaluation.task if evaluation.task in stage.tasks else stage.tasks[0]
            if task == evaluation.task or len(stage.tasks) == 1:
                steps = cost.steps if stage.stage.steps is None else stage.stage.steps / len(stage.tasks)
                hours[stage.key, task.name] = steps * cost.seconds_per_step / 3600
    print(f"all points: {sum(hours.values()):.3g} GPU-hours in {len({stage for stage, _ in hours})} stages")


def _stop_on_signals(flag: Event) -> None:
    """The first Ctrl-C or SIGTERM lets the running step save; the second ends at once."""

    def stop(number: int, frame: object) -> None:
        if flag.is_set():
            os._exit(INTERRUPTED)
        flag.set()
        print("\nsaving, then stopping (again: stop at once)", file=sys.stderr, flush=True)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def _explained(error: BaseException) -> str:
    """One line; for a key that does not exist, the keys that do instead of Hydra's advice to append it."""
    from neurogen.experiment import allowed_beside

    text = one_line(error)
    unknown = re.match(r"Could not override '([^']+)'", text)
    if unknown:
        return f"the config has no key {unknown[1]}{allowed_beside(unknown[1])}"
    return text.split(" Config search path:")[0]


if __name__ == "__main__":
    main()
