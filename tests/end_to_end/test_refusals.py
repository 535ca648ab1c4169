"""Mistakes of the user's: one line that says what was given, what is allowed and what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY, Program, error_line


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["dataset=cats"], ["dataset=cats is unknown", "cifar10", "digits", "mnist5k"]),
        (["target=vgg"], ["target=vgg is unknown", "cnn_small", "lenet"]),
        (["backbone=gpt"], ["backbone=gpt is unknown", "smollm2_135m", "tiny_llama"]),
        (["sed=1"], ["no key sed", "allowed: name, study_name, variant, seed, tasks"]),
        (["zoo.colour=red"], ["no key zoo.colour", "num_networks, chunk_size"]),
        (["zoo.num_networks=many"], ["zoo.num_networks", "many"]),
        (["dataset=image_folder"], ["dataset.path"]),
        (["dataset=image_folder", "dataset.path=/nowhere"], ["/nowhere", "does not exist"]),
        (["dataset=digits", "target=lenet"], ["12×12", "8×8", "dataset.resize"]),
        (["dataset=digits", "target=cnn", "target.options.channels=[1,2,3,4]"], ["16×16", "8×8"]),
        (["target=cnn", "+target.options.depth=3"], ["depth", "options of cnn: channels"]),
        (["target=cnn", "target.options.channels=[]"], ["target.options.channels=[]"]),
        (["dataset=digits", "target=cnn", "target.options.channels=8"], ["target.options.channels=8", "=[8,16]"]),
        (["--seed", "1"], ["--seed is no flag", "seed=VALUE"]),
        (["-m", "dataset=digits", "seed=range(3,1)"], ["seed=range(3,1) has no value at all; give at least one"]),
        (["-m", "dataset=digits", "seed=interval(0,1)"], ["seed=interval(0,1) lists no values", "KEY=A,B"]),
        (["-m", "dataset=digits", "cluster.max_array=x"], ["cluster.max_array=x must be a whole number"]),
        (["dataset=digits", "root='a (1)", "-m"], ["root='a (1) cannot be read", 'root=\\"\'a (1)\\"']),
        (["target.build=nowhere.network"], ["target.build=nowhere.network"]),
        (["dataset=digits", "dataset.resize=16", "dataset.limit=11"], ["dataset.limit=11", "20"]),
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
