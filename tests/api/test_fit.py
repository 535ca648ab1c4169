"""`fit` from Python: the same steps as the command line, done once, from a user's own data and target."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import neurogen
from neurogen import Data, Run
from neurogen.api.fit import experiment_of, same_threads_afterwards, saving_when_interrupted
from neurogen.data.preparation import ImageShape, TextShape
from neurogen.errors import one_line
from neurogen.overrides import in_quotes
from neurogen.run import compose
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from tests.conftest import TINY

DIGITS = load_digits()
IMAGES, LABELS = np.round(DIGITS.images * (255 / 16)).astype(np.uint8)[:600], DIGITS.target[:600]
WORDS = [word for word in TINY if not word.startswith(("dataset=", "target=", "backbone="))]


def perceptron(shape: ImageShape, hidden: int = 12) -> nn.Module:
    """A target of the user's own."""
    pixels = shape.channels * shape.height * shape.width
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, shape.num_classes))


def fitted(root: Path, *words: str) -> Run:
    """A tiny run of own arrays and an own target."""
    data = Data.from_arrays((IMAGES, LABELS), title="scanned digits")
    return neurogen.fit(data, target=perceptron, backbone="tiny_llama", root=root, overrides=[*WORDS, *words])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fitted(tmp_path_factory.mktemp("a folder, with = and 'quotes'") / "runs")


def times_of(run: Run) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path(run.last.root).rglob("*") if path.suffix != ".lock"}


def test_fitting_twice_trains_once(run: Run) -> None:
    before = times_of(run)
    again = fitted(Path(run.last.root))
    assert again.last == run.last
    assert times_of(run) == before


def test_a_run_has_its_table_its_plots_and_its_networks(run: Run) -> None:
    table = run.results
    assert table.loc["generated", "network"] == "generated"
    assert (table.loc["generated", "n"], table.loc["classical", "n"]) == (2, 2)
    assert table.loc["generated", "accuracy"] == run.row["generated_mean"]
    assert (run.row["dataset"], run.row["target"]) == ("scanned_digits", "perceptron")
    assert run.folder.is_dir()
    assert {"curves", "weights", "predictions"} <= set(run.plots)
    assert run.plot("curves").width > 200
    with pytest.raises(neurogen.UserError, match=r"plot=curve is unknown; allowed: .*curves"):
        run.plot("curve")
    shown = run._repr_html_()
    assert "classical training" in shown
    assert re.search(r'<img src="data:image/png;base64,[\w+/]{5000}', shown)
    assert repr(run).endswith(f"generated {run.row['generated_mean']:.2f} ± {run.row['generated_std']:.2f} %)")


def test_the_zoo_and_the_generator_of_a_run_are_ready(run: Run) -> None:
    populations = run.evaluation.metrics()["populations"]
    test = run.evaluation.task.load().test
    assert [network.accuracy_on(test) for network in run.zoo] == pytest.approx(populations["zoo"]["accuracy"])
    assert isinstance(run.zoo.mean().network[1], nn.Linear)
    assert run.generator.tasks == ("scanned_digits-perceptron",)
    instruction = run.generator.module.tasks["scanned_digits-perceptron"].instruction
    assert "the perceptron neural network" in instruction
    assert "the scanned digits data samples" in instruction
    network = run.generator.generate(IMAGES[:20], LABELS[:20])
    assert network(IMAGES[:3]).shape == (3, 10)


def test_own_arrays_are_a_dataset_of_the_command_line(run: Run) -> None:
    """The same words give the same steps, so a job on a cluster finds what was done here."""
    (stored,) = (Path(run.last.root) / "data").iterdir()
    target = "name: perceptron, title: perceptron, build: tests.api.test_fit.perceptron, modality: image, options: {}"
    experiment = compose(
        [
            *WORDS,
            "backbone=tiny_llama",
            "dataset=arrays",
            f"dataset.path={in_quotes(str(stored))}",
            "dataset.name=scanned_digits",
            "dataset.title=scanned digits",
            f"target={{{target}}}",
            f"root={in_quotes(run.last.root)}",
        ]
    )
    assert [step.folder for step in in_order(steps_of([experiment]))] == [step.folder for step in in_order(run.last)]


def test_a_root_that_was_moved_is_read_with_its_arrays(run: Run, tmp_path: Path) -> None:
    """Their path is that of the run, or relative."""
    root, name, num_networks = Path(run.last.root), run.generator.tasks[0], len(run.zoo)
    shutil.copytree(root, tmp_path / "moved")
    hidden = root / "data"
    hidden.rename(root / "gone")
    try:
        moved = neurogen.load(tmp_path / "moved" / "tune" / run.generator.folder.name)
        assert len(moved.dataset(name).train) > 0
        (zoo,) = (tmp_path / "moved" / "reference").iterdir()
        assert len(neurogen.load_zoo(zoo)) == num_networks
        with pytest.raises(neurogen.UserError, match="store the arrays again"):
            run.generator.dataset(name)
    finally:
        (root / "gone").rename(hidden)


def test_a_run_that_is_not_finished_says_so(tmp_path: Path) -> None:
    run = fitted(tmp_path, "only=[reference]")
    assert not run.is_done
    assert run.evaluation.zoo.references[0].is_done
    assert "not finished" in run._repr_html_()
    for use in (lambda: run.results, lambda: run.generator, lambda: run.zoo, lambda: run.plot()):
        with pytest.raises(neurogen.UserError, match="is not finished; call fit again"):
            use()


def test_an_interrupt_saves_and_the_same_call_goes_on(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        while not list(tmp_path.glob("inject/*/checkpoints/*")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt, match="the same call continues") as caught:
        fitted(tmp_path, "recipe.inject.steps=400")
    assert "".join(caught.value._render_traceback_()) == "stopped; the same call continues where this one ended"
    assert signal.getsignal(signal.SIGINT) is handler
    assert not list(tmp_path.glob("inject/*/DONE"))
    assert fitted(tmp_path, "recipe.inject.steps=400", "only=[inject]").evaluation.tune.inject.is_done


def test_the_second_interrupt_ends_at_once() -> None:
    with saving_when_interrupted() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(5)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def recurrent(shape: TextShape) -> nn.Module:
    """Another target of the user's own, which is never built here."""
    raise NotImplementedError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mnist6k",), "mnist6k"),
        ((Data.from_arrays((IMAGES, LABELS)), "rnn"), "dataset image is image, target rnn classifies text"),
        (((IMAGES, LABELS),), "data is a tuple; give a name of conf/dataset, or neurogen.Data.from_arrays"),
        (("digits", lambda shape: None), "is not at the top level"),
        (("digits", load_digits), "called with the shape of the data alone"),
        (("digits", None, None, None, "runs", "seed=1"), "give a list of words: overrides=['seed=1']"),
        (
            ("digits", None, None, None, "runs", ["sed=1"]),
            "the config has no key sed; did you mean seed? allowed: name, ",
        ),
        (("digits", None, None, None, "runs", ["seed=0,1"]), "seed"),
        *(
            (
                (Data.from_arrays((IMAGES, LABELS)), None, None, None, "runs", [word]),
                f"overrides has {word}, and data=… says that already",
            )
            for word in ("dataset.path=x", "dataset=mnist5k", "dataset@dataset=digits")
        ),
        (("digits", recurrent, None, None, "runs", ["target=lenet"]), "overrides has target=lenet, and target=…"),
        (("digits", None, None, None, "runs", [3]), "overrides has 3; give words as on the command line"),
        (("digits", None, None, None, "runs", ["hydra/launcher=slurm"]), "and fit trains here"),
        (
            ("digits", None, None, None, "runs", None),
            "overrides is a NoneType; give a list of words, such as ['seed=1']",
        ),
        (("digits", None, None, None, None), "root=None is a NoneType; give a path"),
    ],
)
def test_what_fit_cannot_do_is_refused_in_one_line(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(neurogen.UserError, match=re.escape(message)) as caught:
        experiment_of(*arguments, *(None, None, None, "runs", ())[len(arguments) - 1 :])
    assert caught.value._render_traceback_() == [f"UserError: {one_line(caught.value)}"]
    assert isinstance(caught.value, ValueError)


def test_fit_takes_whatever_the_command_line_takes() -> None:
    experiment = experiment_of("digits", None, "tiny_llama", "paper", "else where", ["target=cnn_small", "seed=3"])
    assert experiment == compose(
        ["dataset=digits", "target=cnn_small", "backbone=tiny_llama", "recipe=paper", "root='else where'", "seed=3"]
    )


def test_a_notebook_keeps_its_threads() -> None:
    before = torch.get_num_threads()
    with same_threads_afterwards():
        torch.set_num_threads(before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("title", ["Müllsorten", "1e3", "null", "it's ${odd}, [really]"])
def test_titles_are_texts_whatever_they_look_like(tmp_path: Path, title: str) -> None:
    data = Data.from_arrays((IMAGES, LABELS), title=title, name="1e3")
    dataset = experiment_of(data, "cnn_small", "tiny_llama", None, tmp_path, []).dataset
    assert (dataset.title, dataset.name) == (title, "1e3")
    overridden = experiment_of(data, "cnn_small", "tiny_llama", None, tmp_path, ["dataset.title=sonar"])
    assert overridden.dataset.title == "sonar"


@pytest.fixture
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions below as a notebook has them: in __main__."""
    import __main__

    monkeypatch.setattr(perceptron, "__module__", "__main__")
    monkeypatch.setattr(__main__, "perceptron", perceptron, raising=False)


@pytest.mark.usefixtures("main_module")
def test_a_target_of_a_notebook_counts_with_its_source() -> None:
    words = ("digits", perceptron, "tiny_llama", None, "runs", WORDS)
    target = experiment_of(*words).target
    assert (target.build, target.name) == ("__main__.perceptron", "perceptron")
    assert re.fullmatch("[0-9a-f]{16}", target.version or "")
    perceptron.__defaults__, before = (13,), perceptron.__defaults__
    try:
        assert experiment_of(*words).target.version != target.version
    finally:
        perceptron.__defaults__ = before
