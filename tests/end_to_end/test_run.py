"""The commands as a user types them: a tiny experiment in seconds, its artifacts, its errors, its resume."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from neurogen.config import Experiment
from neurogen.data.dataset import load_images
from neurogen.data.preparation import ImageShape
from neurogen.study.results import COLUMNS
from neurogen.targets.networks import cnn
from tests.conftest import TINY, Program, error_line


def folders(root: Path) -> dict[str, Path]:
    return {path.parent.name: path for path in root.glob("*/*") if path.is_dir()}


def test_an_experiment_from_nothing_to_a_table(
    program: Program, experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    first = program("run", *TINY)
    assert first.returncode == 0, first.stderr
    steps = folders(tmp_path / "runs")
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
        assert word in first.stdout
    assert "tensorboard --logdir runs" in first.stdout
    assert first.stdout.splitlines()[-1].split() == [
        "report",
        str((steps["sweeps"] / "report.html").relative_to(tmp_path)),
    ]

    (row,) = json.loads((steps["sweeps"] / "results.json").read_text())
    network, test = cnn(ImageShape(1, 8, 8, 10), [16, 32]), load_images(experiment().dataset).test
    right = []
    for number in range(2):  # what the table says is what the files do in plain torch
        network.load_state_dict(load_file(steps["evaluate"] / f"network-{number:04d}.safetensors"))
        right.append(100 * float((network(test.inputs()).argmax(1) == test.labels).double().mean()))
    assert row["generated_mean"] == pytest.approx(sum(right) / 2, abs=0.006)

    again = program("run", *TINY)  # the same command shows the same, and touches nothing
    assert again.returncode == 0
    assert again.stdout == first.stdout[first.stdout.index("\ndigits") :]


def test_tensorboard_shows_scalars_histograms_text_and_figures(program: Program, tmp_path: Path) -> None:
    assert program("run", *TINY).returncode == 0
    steps = folders(tmp_path / "runs")
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


KILLED = [*TINY, "recipe.inject.steps=20", "recipe.tune.steps=20", "recipe.tune.batch_size=512"]


def test_killed_at_any_moment_it_ends_in_the_same_bits(program: Program, tmp_path: Path) -> None:
    """SIGKILL as soon as a file of each kind appears, in zoo, stage 1 and stage 2; then run to the end."""
    assert program("run", *KILLED, "root=undisturbed").returncode == 0
    command = [sys.executable, "-m", "neurogen.run", *KILLED, "root=killed"]
    moments = [
        "reference/*/network-0001.safetensors",
        "inject/*/checkpoints/step-000002.safetensors",
        "inject/*/checkpoints/step-000010.safetensors",
        "tune/*/checkpoints/step-000004.safetensors",
        "tune/*/checkpoints/step-000016.safetensors",
        "evaluate/*/network-0000.safetensors",
    ]
    for moment in moments:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not list((tmp_path / "killed").glob(moment)):
            assert process.poll() is None, f"ended before {moment}"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = program("run", *KILLED, "root=killed")
    assert last.returncode == 0, last.stderr
    disturbed, undisturbed = folders(tmp_path / "killed"), folders(tmp_path / "undisturbed")
    for kind in ("inject", "tune"):
        for name in ("generator.safetensors", "adapter/adapter_model.safetensors"):
            assert (disturbed[kind] / name).read_bytes() == (undisturbed[kind] / name).read_bytes(), (kind, name)
    for number in range(2):
        name = f"network-{number:04d}.safetensors"
        assert (disturbed["evaluate"] / name).read_bytes() == (undisturbed["evaluate"] / name).read_bytes()


def test_a_deleted_folder_is_made_again_with_the_same_bits(program: Program, tmp_path: Path) -> None:
    first = program("run", *TINY)
    steps = folders(tmp_path / "runs")
    before = (steps["tune"] / "generator.safetensors").read_bytes()
    shutil.rmtree(steps["tune"])
    again = program("run", *TINY)
    assert (steps["tune"] / "generator.safetensors").read_bytes() == before
    assert again.stdout.endswith(first.stdout[first.stdout.index("\ndigits") :])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "neurogen.run", *TINY, "recipe.inject.steps=3000", "checkpoint_every=1000"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "runs").glob("inject/*/events*")):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues" in said
    assert "Traceback" not in said
    assert len(list((tmp_path / "runs").glob("inject/*/checkpoints/step-*.safetensors"))) == 1


def test_two_processes_share_the_work_and_the_result(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "neurogen.run", *TINY]
    both = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    tables = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], tables
    assert "waiting: another process works on" in tables[0][1] + tables[1][1]
    ends = [out[out.index("\ndigits") :] for out, _ in tables]
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["dataset=cats"], ["dataset/cats", "cifar10", "digits", "mnist5k"]),
        (["target=vgg"], ["target/vgg", "cnn_small", "lenet"]),
        (["backbone=gpt"], ["backbone/gpt", "smollm2_135m", "tiny_llama"]),
        (["sed=1"], ["no key sed", "allowed: name, study_name, variant, seed, tasks"]),
        (["zoo.colour=red"], ["no key zoo.colour", "num_networks, chunk_size"]),
        (["zoo.num_networks=many"], ["zoo.num_networks", "many"]),
        (["dataset=image_folder"], ["dataset.path"]),
        (["dataset=image_folder", "dataset.path=/nowhere"], ["/nowhere", "does not exist"]),
        (["dataset=digits", "target=lenet"], ["12×12", "8×8", "dataset.resize"]),
        (["dataset=digits", "target=cnn", "target.options.channels=[1,2,3,4]"], ["16×16", "8×8"]),
        (["target=cnn", "+target.options.depth=3"], ["depth", "options of cnn: channels"]),
        (["target=cnn", "target.options.channels=[]"], ["target.options.channels=[]"]),
        (["target.build=nowhere.network"], ["target.build=nowhere.network"]),
        (["dataset=digits", "dataset.limit=11"], ["dataset.limit=11", "20"]),
        (["root=/proc/runs"], ["/proc/runs", "set root=FOLDER"]),
        (["device=cuda"], ["no GPU"]),
        (["seed=1", "wrong"], ["wrong"]),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(program: Program, arguments: list[str], parts: list[str]) -> None:
    if arguments == ["device=cuda"] and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    line = error_line(program("run", *arguments))
    for part in parts:
        assert part in line


def test_a_traceback_is_there_when_asked_for(program: Program) -> None:
    process = program("run", "zoo.init=same", NEUROGEN_DEBUG="1")
    assert process.returncode == 1
    assert "Traceback" in process.stderr


def test_no_permission_to_write(program: Program, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    if os.access(locked, os.W_OK):  # root may write everywhere but in the kernel's own file systems
        locked = Path("/sys/kernel")
    line = error_line(program("run", *TINY, f"root={locked}/runs"))
    assert f"cannot write {locked}" in line
    assert "set root=FOLDER" in line


def test_generate_from_a_finished_generator(
    program: Program, experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    assert program("run", *TINY, "recipe.tune.steps=40", "zoo.training.epochs=10").returncode == 0
    generator = f"generator={folders(tmp_path / 'runs')['tune']}"
    process = program("generate", generator, "num_networks=3", "test=own", "instruction=A net: for digits, please?")
    assert process.returncode == 0, process.stderr
    assert "A net: for digits, please?" in process.stdout
    said = [float(found) for found in re.findall(r"test accuracy ([\d.]+) %", process.stdout)]
    networks = [load_file(tmp_path / f"network-{number}.safetensors") for number in range(3)]
    assert not torch.equal(networks[0]["0.weight"], networks[1]["0.weight"])  # another context, another network
    own, test = cnn(ImageShape(1, 8, 8, 10), [16, 32]), load_images(experiment().dataset).test
    for network, accuracy in zip(networks, said, strict=True):
        own.load_state_dict(network)  # plain torch, plain safetensors
        assert round(100 * float((own(test.inputs()).argmax(1) == test.labels).double().mean()), 2) == accuracy
    assert min(said) > 60

    once = program("generate", generator, "out=again.safetensors", "instruction=A net: for digits, please?")
    assert once.returncode == 0, once.stderr
    assert all(
        torch.equal(value, networks[0][name]) for name, value in load_file(tmp_path / "again.safetensors").items()
    )


def test_generate_reads_own_pictures(program: Program, tmp_path: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    assert program("run", *TINY).returncode == 0
    source = load_digits()
    for index in range(40):
        folder = tmp_path / "pictures" / str(source.target[index])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((source.images[index] * 15).astype("uint8")).save(folder / f"{index}.png")
    generator = f"generator={folders(tmp_path / 'runs')['tune']}"
    process = program("generate", generator, "samples=pictures", "test=pictures")
    assert process.returncode == 0, process.stderr
    assert "(n = 40)" in process.stdout


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["generator=nowhere"], ["nowhere", "missing", "finished"]),
        (["out=x.safetensors"], ["generator=FOLDER is missing"]),
        (["generator=x", "colour=red"], ["colour", "allowed: generator, instruction"]),
        (["generator=x", "num_networks=0"], ["num_networks=0", "at least 1"]),
        (["generator=x", "num_networks=two"], ["num-networks", "two"]),
        (["generator=x", "out=net.bin"], ["net.bin", ".safetensors"]),
        (["generator=x", "please"], ["please", "KEY=VALUE"]),
    ],
)
def test_generate_refuses_in_one_line(program: Program, arguments: list[str], parts: list[str]) -> None:
    line = error_line(program("generate", *arguments))
    for part in parts:
        assert part in line


OWN = """
import numpy as np
from neurogen.data.dataset import Labelled, RawSplits
from torch import nn

def stripes(config):
    images = np.zeros((2, 60, 1, 6, 6), np.uint8)
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
    own = ["--config-dir", "more", *TINY[2:], "dataset=stripes", "target=perceptron", "recipe.tune.batch_size=32"]
    process = program("run", *own, "recipe.tune.steps=20")
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
        "evaluate.num_contexts=2",
    ]
    process = program("run", *short)
    assert process.returncode == 0, process.stderr
    assert "mnist5k · lenet · smollm2_135m · recipe fast" in process.stdout
    (row,) = json.loads(next((tmp_path / "runs").glob("sweeps/*/results.json")).read_text())
    assert row["num_test"] == 1000
    assert row["n_ok"] == 2
