"""A whole run: from nothing to a table, its artifacts, with the user's own data and target, and the demo."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from neurogen.data.dataset import load_images
from neurogen.data.preparation import ImageShape
from neurogen.study.rows import COLUMNS
from neurogen.targets.networks import cnn
from tests.conftest import TINY, Composed, FinishedRun, Program, folders
from tests.programs import run_new


def test_an_experiment_from_nothing_to_a_table(tiny_run: FinishedRun, experiment: Composed) -> None:
    """In a new interpreter, as everything that a user types."""
    steps = folders(tiny_run.folder / "runs")
    assert set(steps) == {"reference", "classical", "inject", "tune", "evaluate", "sweeps"}
    for folder in steps.values():
        assert {"DONE", "config.json", "environment.json", "metrics.json"} <= {path.name for path in folder.iterdir()}
    with (steps["sweeps"] / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == COLUMNS
    assert (row["dataset"], row["target"], row["n_ok"]) == ("digits", "cnn_small", "2")
    assert json.loads((steps["sweeps"] / "results.json").read_text())
    for name in ("curves", "weights", "predictions", "learning", "memorisation", "conditioning"):
        for suffix in ("png", "pdf"):
            (picture,) = steps["sweeps"].glob(f"{name}*.{suffix}")
            assert picture.stat().st_size > 5000
    for word in ("classical training", "zoo mean network", "random", "after stage 1", row["generated_mean"]):
        assert word in tiny_run.stdout
    assert "tensorboard --logdir runs" in tiny_run.stdout
    assert tiny_run.stdout.splitlines()[-1].split() == [
        "report",
        str((steps["sweeps"] / "report.html").relative_to(tiny_run.folder)),
    ]

    (row,) = json.loads((steps["sweeps"] / "results.json").read_text())
    network, test = cnn(ImageShape(1, 8, 8, 10), [16, 32]), load_images(experiment().dataset).test
    accuracies = []
    for index in range(2):  # what the table says is what the files do in plain torch
        network.load_state_dict(load_file(steps["evaluate"] / f"network-{index:04d}.safetensors"))
        accuracies.append(100 * float((network(test.inputs()).argmax(1) == test.labels).double().mean()))
    assert row["generated_mean"] == pytest.approx(sum(accuracies) / 2, abs=0.006)

    again = run_new(["neurogen.run", *TINY], tiny_run.folder, os.environ)  # shows the same, and touches nothing
    assert again.returncode == 0
    assert again.stdout == tiny_run.table


def test_tensorboard_shows_scalars_histograms_text_and_figures(tiny_run: FinishedRun) -> None:
    steps = folders(tiny_run.folder / "runs")
    for stage in ("inject", "tune"):
        events = EventAccumulator(str(steps[stage])).Reload()
        scalars = {"loss", "lr", "grad_norm", "tokens_per_s", "validation_accuracy"}
        assert scalars <= set(events.Tags()["scalars"])
        assert [event.step for event in events.Scalars("loss")] == list(range(1, 9))
        assert min(event.value for event in events.Scalars("tokens_per_s")) > 0
    (point,) = steps["sweeps"].glob("point-*")
    tags = EventAccumulator(str(point)).Reload().Tags()
    assert {"curves", "weights", "predictions"} <= set(tags["images"])
    assert any(name.startswith("generated/") for name in tags["histograms"])
    assert any("instruction" in name for name in tags["tensors"])


OWN = """
import numpy as np
from neurogen.data.raw import Labelled, RawSplits
from torch import nn

def stripes(config):
    images = np.random.default_rng(0).integers(0, 60, (2, 60, 1, 6, 6), np.uint8)
    images[:, :30, :, ::2], images[:, 30:, :, :, ::2] = 255, 255
    labels = np.arange(60) // 30
    train, test = (Labelled.of(part, labels) for part in images)
    return RawSplits(train, test, ("lying", "standing"))

def perceptron(shape, hidden):
    pixels = shape.channels * shape.height * shape.width
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, shape.num_classes))
"""


def test_a_dataset_and_a_target_of_the_users_own(program: Program, tmp_path: Path) -> None:
    """One function and one YAML file each, as docs/choices.md says."""
    (tmp_path / "own.py").write_text(OWN)
    for group, text in {
        "dataset": "{name: stripes, title: stripes, load: own.stripes, path: null, limit: null, "
        "validation_fraction: 0.1, split_seed: 0}",
        "target": "{name: perceptron, title: MLP, modality: image, build: own.perceptron, options: {hidden: 8}}",
    }.items():
        (tmp_path / "more" / group).mkdir(parents=True)
        (tmp_path / "more" / group / f"{'stripes' if group == 'dataset' else 'perceptron'}.yaml").write_text(text)
    words = ["--config-dir", "more", *TINY[2:], "dataset=stripes", "target=perceptron", "recipe.tune.batch_size=32"]
    process = program("run", *words, "recipe.tune.steps=20")
    assert process.returncode == 0, process.stderr
    (row,) = json.loads(next((tmp_path / "runs").glob("sweeps/*/results.json")).read_text())
    assert (row["dataset"], row["target"]) == ("stripes", "perceptron")
    assert row["generated_mean"] > 90  # of two classes that anyone can tell apart


@pytest.mark.smollm2
def test_the_demo_on_a_few_steps(program: Program, tmp_path: Path) -> None:
    """The defaults, the real SmolLM2 and real digits; only shorter."""
    short = [
        "zoo.num_networks=2",
        "zoo.training.epochs=1",
        "classical.num_networks=1",
        "classical.training.epochs=1",
        "recipe.inject.steps=2",
        "recipe.tune.steps=2",
        "evaluate.num_contexts=1",
    ]
    process = program("run", *short)
    assert process.returncode == 0, process.stderr
    assert "mnist5k · lenet · smollm2_135m · recipe fast" in process.stdout
    (row,) = json.loads(next((tmp_path / "runs").glob("sweeps/*/results.json")).read_text())
    assert row["num_test"] == 1000
    assert row["n_ok"] == 1
