"""Networks from a finished generator, on the command line."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file

from neurogen.data.dataset import load_images
from neurogen.data.preparation import ImageShape
from neurogen.targets.networks import cnn
from tests.conftest import TINY, Composed, FinishedRun, Program, folders


def test_generate_from_a_finished_generator(
    program: Program, new_program: Program, experiment: Composed, tmp_path: Path
) -> None:
    """What the command says of its networks is what plain torch finds; its first call is in a new interpreter."""
    stages = "only=[reference,inject,tune]"
    assert program("run", *TINY, "recipe.tune.steps=40", "zoo.training.epochs=10", stages).returncode == 0
    generator = f"generator={folders(tmp_path / 'runs')['tune']}"
    process = new_program("generate", generator, "num_networks=3", "test=own", "instruction=A net: for digits, please?")
    assert process.returncode == 0, process.stderr
    assert "A net: for digits, please?" in process.stdout
    printed = [float(percent) for percent in re.findall(r"test accuracy ([\d.]+) %", process.stdout)]
    networks = [load_file(tmp_path / f"network-{index}.safetensors") for index in range(3)]
    assert not torch.equal(networks[0]["0.weight"], networks[1]["0.weight"])  # another context, another network
    module, test = cnn(ImageShape(1, 8, 8, 10), [16, 32]), load_images(experiment().dataset).test
    for network, accuracy in zip(networks, printed, strict=True):
        module.load_state_dict(network)
        assert round(100 * float((module(test.inputs()).argmax(1) == test.labels).double().mean()), 2) == accuracy
    assert min(printed) > 60

    once = program("generate", generator, "out=again.safetensors", "instruction=A net: for digits, please?")
    assert once.returncode == 0, once.stderr
    assert all(
        torch.equal(value, networks[0][name]) for name, value in load_file(tmp_path / "again.safetensors").items()
    )


def test_generate_reads_own_pictures(tiny_run: FinishedRun, program: Program, tmp_path: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    source = load_digits()
    for index in range(40):
        folder = tmp_path / "pictures" / str(source.target[index])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((source.images[index] * 15).astype("uint8")).save(folder / f"{index}.png")
    process = program("generate", f"generator={tiny_run.step('tune')}", "samples=pictures", "test=pictures")
    assert process.returncode == 0, process.stderr
    assert "(n = 40)" in process.stdout
