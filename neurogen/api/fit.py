"""Fit a generator from Python: the same steps, folders and resume as `neurogen run`, in this process.

    run = neurogen.fit("mnist5k", target="lenet")
    run = neurogen.fit(data, target=my_network, recipe="fast", overrides=["seed=1", "zoo.num_networks=16"])

What is done is not done again, so calling `fit` twice trains once.
"""

from __future__ import annotations

import inspect
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import torch

from neurogen.api.data import Data, require_place
from neurogen.api.run import Run
from neurogen.api.source import dotted_name, source_digest
from neurogen.config import Experiment, TargetConfig
from neurogen.config.rules import validate
from neurogen.errors import Interrupted, UserError
from neurogen.overrides import in_quotes
from neurogen.process import run_experiment
from neurogen.run import compose, user_errors
from neurogen.study.graph import steps_of

LOADERS = {"image": "arrays", "text": "text_arrays"}  # conf/dataset
STOPPED = "stopped; the same call continues where this one ended"


class Stopped(KeyboardInterrupt):
    """The user interrupted `fit`, and what is needed to go on is saved."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook."""
        return [str(self)]


def fit(
    data: str | Data,
    *,
    target: str | Callable[..., Any] | None = None,
    backbone: str | None = None,
    recipe: str | None = None,
    root: str | Path = "runs",
    overrides: Sequence[str] = (),
) -> Run:
    """Train a zoo and the baselines, fit a generator to them in two stages, evaluate it; returns the run.

    data       a name of conf/dataset, or `Data` of the user's own
    target     a name of conf/target, or a function (DataShape) → torch.nn.Module at the top level of a module or a
               notebook; left out: what the data's kind asks for, lenet or mlp
    backbone   a name of conf/backbone; recipe a name of conf/recipe; left out: what the command line takes
    root       the folder of all results
    overrides  further words of the command line, which count most: ["seed=1", "recipe.tune.steps=100"]

    Raises UserError where the command line would refuse. Interrupted (Ctrl-C, or the kernel of a notebook), it saves
    what is needed to go on and raises KeyboardInterrupt.
    """
    experiment = experiment_of(data, target, backbone, recipe, root, overrides)
    with user_errors(), same_threads_afterwards(), saving_when_interrupted() as stop:
        try:
            run_experiment(experiment, stop)
        except Interrupted:
            raise Stopped(STOPPED) from None
    return Run(steps_of([experiment]), experiment.device)


def experiment_of(
    data: str | Data,
    target: str | Callable[..., Any] | None,
    backbone: str | None,
    recipe: str | None,
    root: str | Path,
    overrides: Sequence[str],
) -> Experiment:
    """The experiment that `fit` runs. Own data is stored under the root. Raises UserError as `fit` does."""
    if isinstance(overrides, str):
        raise UserError(f"overrides={overrides!r} is one string; give a list of words: overrides=[{overrides!r}]")
    if not isinstance(overrides, Sequence):
        raise UserError(f"overrides is a {type(overrides).__name__}; give a list of words, such as ['seed=1']")
    require_place("root", root)
    if odd := [word for word in overrides if not isinstance(word, str)]:
        raise UserError(f"overrides has {odd[0]!r}; give words as on the command line, such as 'seed=1'")
    if launchers := [word for word in overrides if word.lstrip("+").startswith("hydra/")]:
        raise UserError(f"overrides has {launchers[0]}, and fit trains here; submit from the command line, with -m")
    words = [f"root={in_quotes(str(root))}"]
    if isinstance(data, Data):
        refuse_overrides(overrides, ("dataset", "dataset.load", "dataset.path"), "data=…")
        names = (("name", data.name), ("title", data.title))
        words += [f"dataset={LOADERS[data.modality]}", *(f"dataset.{key}={in_quotes(name)}" for key, name in names)]
        words += ["dataset.path=null", f"dataset.size={data.size}"]
    elif isinstance(data, str):
        words.append(f"dataset={data}")
    else:
        raise UserError(
            f"data is a {type(data).__name__}; give a name of conf/dataset, or neurogen.Data.from_arrays(…), "
            "from_torch(…) or from_datasets(…)"
        )
    if isinstance(target, str):
        words.append(f"target={target}")
    elif target is not None:
        refuse_overrides(overrides, ("target", "target.build", "target.options", "target.version"), "target=…")
        name = dotted_name(target).rpartition(".")[2]
        title = re.sub(r"[_\W]+", " ", name).strip()
        words += [f"target.name={in_quotes(name)}", f"target.title={in_quotes(title)}"]
    words += [f"{group}={choice}" for group, choice in (("backbone", backbone), ("recipe", recipe)) if choice]
    experiment = compose([*words, *overrides])
    if isinstance(data, Data):
        path = str(data.save(experiment.root))
        experiment = replace(experiment, dataset=replace(experiment.dataset, path=path))
    if target is not None and not isinstance(target, str):
        experiment = replace(experiment, target=target_config(target, experiment.target))
    validate(experiment)
    return experiment


def refuse_overrides(overrides: Sequence[str], keys: Sequence[str], argument: str) -> None:
    """Raises UserError for an override of what an argument of `fit` has given."""
    for word in overrides:
        group, _, package = word.partition("=")[0].lstrip("+~").partition("@")
        given = package or group  # target@source is another target
        if any(given == key or ("." in key and given.startswith(f"{key}.")) for key in keys):
            raise UserError(f"overrides has {word}, and {argument} says that already; leave one of them out")


def target_config(function: Callable[..., Any], composed: TargetConfig) -> TargetConfig:
    """The config of a target that is a function of the user's own, called by what the instruction calls it."""
    named = {name: p for name, p in inspect.signature(function).parameters.items() if p.default is p.empty}
    if len(named) != 1:
        raise UserError(
            f"target={function.__name__} has the parameters {', '.join(named) or 'none'} without a default; it is "
            "called with the shape of the data alone, so give all others a default"
        )
    return replace(composed, build=dotted_name(function), options={}, version=source_digest(function))


@contextmanager
def same_threads_afterwards() -> Iterator[None]:
    """What follows in a notebook has as many of torch's threads as before."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def saving_when_interrupted() -> Iterator[Event]:
    """A stop flag that the first Ctrl-C sets, so that the running step saves; the second raises KeyboardInterrupt.

    Python lets only the main thread handle signals; elsewhere the flag is never set.
    """
    stop = Event()

    def set_flag(signum: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        print("\nsaving, then stopping (again: stop at once)", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, set_flag)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
