"""`neurogen targets`: what can be generated, and why the rest cannot; memory that is not there, said before."""

from __future__ import annotations

import sys

import pytest
import torch

from neurogen import __main__
from neurogen.catalogue import configured, listed
from neurogen.choices import groups
from neurogen.cost import room
from neurogen.cost.room import Memory, require_room
from neurogen.errors import UserError
from neurogen.training.memory import free_memory
from tests.conftest import Composed, Program, error_line


def test_every_target_of_conf_is_listed_with_its_tokens(experiment: Composed) -> None:
    targets = configured()
    assert list(targets) == groups()["target"]
    verdicts = {verdict.name: verdict for verdict in listed(experiment(), targets)}
    small = verdicts["cnn_small"]
    assert (small.num_parameters, small.num_in_buffers, small.reason) == (5130, 0, "")
    assert small.num_tokens == 83  # at width 64
    residual = verdicts["resnet8"]
    assert (residual.num_parameters, residual.num_in_buffers, residual.reason) == (75_002, 480, "")
    assert "lenet needs images of at least 12×12" in verdicts["lenet"].reason
    assert verdicts["mlp"].reason == "it classifies texts"
    assert verdicts["mlp"].num_tokens is None
    assert "generator.block_tokens=512" in verdicts["torchvision"].reason
    (in_blocks,) = listed(experiment("generator.block_tokens=512"), {"torchvision": targets["torchvision"]})
    assert in_blocks.reason == ""
    assert in_blocks.num_parameters == 11_172_810


def test_the_command_prints_them(program: Program) -> None:
    words = ("dataset=digits", "backbone=tiny_llama", "target=torchvision", "target.options.model=squeezenet1_1")
    shown = program("catalogue", *words, "generator.block_tokens=512")
    assert shown.returncode == 0, shown.stderr
    assert "squeezenet1_1" in shown.stdout
    assert "wide_resnet50_2" in shown.stdout
    assert "-m is no option here" in error_line(program("catalogue", "-m"))


def test_help_needs_no_torch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["neurogen", "targets", "--help"])
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "omegaconf", None)
    __main__.main()
    assert capsys.readouterr().out.startswith("usage: neurogen targets")


def test_a_target_that_the_machine_cannot_hold_is_refused_with_numbers(
    experiment: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    point, memory = experiment(), Memory(10**6, torch.float32)
    require_room(point, memory)  # small targets are let through
    monkeypatch.setattr(room, "LARGE", 5000)
    with pytest.raises(UserError, match=r"has 5,130 values, and training .* takes about 0\.0 GB .*, where 0\.0 GB are"):
        require_room(point, memory)
    require_room(point, Memory(10**12, torch.float32))
    require_room(point)  # of another machine


def test_free_memory_is_below_the_machines() -> None:
    free = free_memory(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**50


def test_own_targets_are_judged_too(experiment: Composed) -> None:
    point = experiment("target.build=tests.targets.normalised.tied", "target.version=1", "target.options.channels=[4]")
    (verdict,) = listed(point, {"mine": point.target})
    assert (verdict.reason, verdict.num_in_buffers) == ("", 16)
