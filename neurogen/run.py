"""Run an experiment: config in, finished table out. Beside overrides.py the only module that imports Hydra.

in:  the command line, or a list of overrides
out: the folders of the steps below `root`, and the table on the terminal

python -m neurogen.run                            the demo
python -m neurogen.run dataset=cifar10 target=cnn
python -m neurogen.run -m +study=table1_small     a sweep; neurogen/sweep.py plans it
python -m neurogen.run --help
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import OmegaConf
from yaml import YAMLError

from hpc.errors import ClusterError
from hpc.jobs.cluster import Cluster
from hpc.ranks.zero import Zero
from neurogen.arguments import asks_for_sweep, for_hydra, split, with_members, with_study
from neurogen.choices import RESOLVERS, conf_folder, groups
from neurogen.composition import explained
from neurogen.errors import Interrupted, UserError, errors_in_one_line
from neurogen.overrides import require_readable
from neurogen.secrets import require_no_secrets
from neurogen.streams import make_lasting
from neurogen.usage import usage

if TYPE_CHECKING:
    from neurogen.config import Experiment

INTERRUPTED = 130
_HYDRA = Lock()  # it has one state for all threads
VERSION_BASE = "1.3"  # of Hydra's behaviour
MENDABLE = (HydraException, YAMLError, ClusterError)


def _register() -> None:
    """What conf/ needs: our plugins, which Hydra does not find in an editable install, and functions for ${…}."""
    plugins = Plugins.instance()  # first, since it runs the modules anew that the classes of ours derive from
    from hydra_plugins.neurogen_launcher import StudyLocalLauncher, StudySlurmLauncher
    from hydra_plugins.neurogen_sweeper import StudySweeper

    for plugin in (StudySlurmLauncher, StudyLocalLauncher, StudySweeper):
        plugins.register(plugin)
    register_functions()


def register_functions(as_nodes: bool = False) -> None:
    """What conf/ calls as ${NAME:…}. With `as_nodes`, which takes longer, --resolve can print what they give."""
    for name, function in (RESOLVERS | {"stored_size": _stored_size}).items():
        OmegaConf.register_new_resolver(name, _as_node(function) if as_nodes else function, replace=True)


def _as_node(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function; a dictionary that it gives is a part of the config."""

    @wraps(function)
    def resolve(*arguments: Any, **keywords: Any) -> Any:
        value = function(*arguments, **keywords)
        return OmegaConf.create(value) if isinstance(value, dict) else value

    return resolve


def _stored_size(*, _parent_: Any) -> dict[str, Any] | None:
    """What ${stored_size:} gives beside dataset.path: the size of the arrays that are stored there."""
    from neurogen.data.arrays import stored_size

    path = None if OmegaConf.is_missing(_parent_, "path") else _parent_.path
    return None if path is None else stored_size(Path(path))


_register()


def main() -> None:
    """The command. What the user can mend ends in one line with exit status 1, an interruption with 130."""
    make_lasting()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands exceptions on instead of printing its own summary
    with errors_in_one_line(*MENDABLE, explain=_explained):
        flags, overrides = split(sys.argv[1:])
        if {"-h", "--help"} & set(flags):
            print(usage(groups()))
            return
        require_readable(overrides, groups(), asks_for_sweep(flags))
        require_no_secrets(overrides)
        register_functions(as_nodes="--resolve" in flags)
        sys.argv[:] = for_hydra(sys.argv)
        try:
            compose_and_run()
        except KeyboardInterrupt:  # of a sweep, whose processes got the signal too
            _say_stopped()
            sys.exit(INTERRUPTED)
        _leave_as_rank()


def compose(overrides: Sequence[str] = ()) -> Experiment:
    """The experiment that these words of the command line describe. Raises UserError as the command does.

    Hydra's global state stays as it is, so this also works in a program that Hydra runs. Folders with files of your own
    are given as hydra.searchpath=[file:///FOLDER].
    """
    from neurogen.experiment import experiment_from

    require_readable(overrides, groups(), is_sweep=False, typed=repr)
    with _HYDRA:
        outer, outer_base = GlobalHydra.instance().hydra, VersionBase.instance().version_base
        GlobalHydra.instance().clear()
        try:
            with user_errors(), hydra.initialize_config_dir(conf_folder(), version_base=VERSION_BASE):
                composed = hydra.compose("config", with_study(with_members(overrides), is_sweep=False))
        finally:
            GlobalHydra.instance().hydra, VersionBase.instance().version_base = outer, outer_base
    return experiment_from(composed)


@contextmanager
def user_errors() -> Iterator[None]:
    """What the command explains in one line becomes a UserError with that line."""
    try:
        yield
    except MENDABLE as error:
        raise UserError(_explained(error)) from error


@hydra.main(version_base=VERSION_BASE, config_path=conf_folder(), config_name="config")
@errors_in_one_line(ClusterError)  # in here too, before Hydra reports the exception in its own words
def compose_and_run(composed: Any) -> None:
    """Run one experiment in this process, or in this rank of several, and show its table."""
    from hpc.ranks.placement import Placement
    from neurogen.experiment import experiment_from
    from neurogen.process import prepare, run_steps
    from neurogen.report.terminal import show

    experiment = experiment_from(composed)
    placement, stop = Placement.from_environment(os.environ), Event()
    try:
        planned = prepare(experiment, placement)  # Ctrl-C ends it at once
        _stop_on_signals(stop)
        run_steps(experiment, planned.steps, placement, stop)
    except (Interrupted, KeyboardInterrupt):
        if placement.rank != 0:
            return  # rank 0 says so
        _say_stopped()
        sys.exit(INTERRUPTED)
    if planned.last is not None and planned.last.is_done and placement.rank == 0:
        show(planned.last)


def _leave_as_rank() -> None:
    """End this process here and now if it has done steps as one rank of several."""
    if "hpc.ranks.distributed" not in sys.modules:
        return
    from hpc.ranks.distributed import leave
    from hpc.ranks.placement import Placement

    if Placement.from_environment(os.environ).size > 1:
        leave(0)


def _stop_on_signals(stop: Event) -> None:
    """The first Ctrl-C or SIGTERM lets the running step save; the second ends at once, with status 130 or 143."""
    from hpc.ranks.signals import end_at_once, hear

    def handle(signal_number: int) -> None:
        if stop.is_set():
            end_at_once(signal_number)
        stop.set()
        print("\nsaving, then stopping (again: stop at once)", file=sys.stderr, flush=True)

    hear(handle, signal.SIGINT, signal.SIGTERM)


def _say_stopped() -> None:
    print("\nstopped; the same command continues where this one ended", file=sys.stderr)


def _explained(error: BaseException) -> str:
    return explained(error, {"cluster": Cluster, "zero": Zero})


if __name__ == "__main__":
    main()
