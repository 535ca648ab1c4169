"""How exactly torch computes: what a step sets, what it leaves as it was, and that a CPU gives the same bits."""

from __future__ import annotations

import os
from functools import partial
from threading import Event
from typing import Any

import pytest
import torch

from hpc.ranks.placement import Placement
from neurogen.errors import UserError
from neurogen.process import prepare, runtime_of
from neurogen.program import runtime_from, settings_of
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.study.pipeline import Tune
from neurogen.training.numerics import CUBLAS_KEY, Numerics, prepare_cublas
from neurogen.training.runtime import runtime_here
from tests.conftest import Composed


def settings() -> tuple[bool, str, str]:
    """(deterministic, precision of convolutions, of RNNs) as torch has them now."""
    cudnn: Any = torch.backends.cudnn
    deterministic = torch.are_deterministic_algorithms_enabled()
    return deterministic, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision


@pytest.mark.parametrize(
    ("numerics", "expected"),
    [
        (Numerics(), (False, "ieee", "ieee")),
        (Numerics(deterministic=True), (True, "ieee", "ieee")),
        (Numerics(tf32=True), (False, "tf32", "tf32")),
    ],
)
def test_settings_hold_inside_and_are_put_back_even_after_an_error(
    numerics: Numerics, expected: tuple[bool, str, str]
) -> None:
    before, inside = settings(), []

    def fail() -> None:
        with numerics.applied():
            inside.append(settings())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside == [expected]
    assert settings() == before


def test_the_older_flags_of_cudnn_work_inside() -> None:
    """As in a target that leaves cuDNN out. Where the flag contradicts the kinds, these are put back, and it is not."""
    cudnn: Any = torch.backends.cudnn
    for deterministic in (False, True):
        with Numerics(deterministic).applied():
            assert cudnn.allow_tf32 is False
            assert torch.utils.deterministic.fill_uninitialized_memory is not deterministic
            with cudnn.flags(enabled=False, allow_tf32=False):
                assert not cudnn.enabled
        assert cudnn.allow_tf32 is True
        assert torch.utils.deterministic.fill_uninitialized_memory
    before = cudnn.conv.fp32_precision
    cudnn.conv.fp32_precision = "ieee"
    try:
        with Numerics().applied():
            assert settings()[1:] == ("ieee", "ieee")
        assert settings()[1:] == ("ieee", before)
    finally:
        cudnn.allow_tf32 = True


def test_what_the_user_asked_of_torch_stays() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with Numerics().applied():
            assert torch.are_deterministic_algorithms_enabled()
        with Numerics(deterministic=True).applied():
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(before)


def test_the_last_of_overlapping_threads_puts_the_settings_back() -> None:
    before = settings()
    first, second = Numerics(tf32=True).applied(), Numerics(deterministic=True).applied()
    first.__enter__()
    second.__enter__()
    inside = settings()
    first.__exit__(None, None, None)
    assert settings() == inside == (True, "ieee", "ieee")
    second.__exit__(None, None, None)
    assert settings() == before


def test_cublas_is_prepared_before_the_gpu_is_used_or_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CUBLAS_KEY, raising=False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(UserError, match=rf"deterministic=true comes too late.*set {CUBLAS_KEY}=:4096:8"):
        prepare_cublas()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    prepare_cublas()
    assert os.environ[CUBLAS_KEY] == ":4096:8"
    monkeypatch.setenv(CUBLAS_KEY, ":16:8")
    prepare_cublas()
    assert os.environ[CUBLAS_KEY] == ":16:8"  # the user's own choice


class Gpus:
    """Cards as torch speaks of them. It has used one from the first call on that asks the driver for a card."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        monkeypatch.setenv(CUBLAS_KEY, "")  # so that it is put back
        monkeypatch.delenv(CUBLAS_KEY)
        self.in_use = False
        self.prepared: str | None = None  # the value for cuBLAS when a card was first used
        answers = {"get_device_name": "NVIDIA H200", "mem_get_info": (2**37, 2**37), "set_device": None}
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, partial(self.use, answer))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: self.in_use)

    def use(self, answer: object, *_: object) -> object:
        if not self.in_use:
            self.in_use, self.prepared = True, os.environ.get(CUBLAS_KEY)
        return answer


@pytest.mark.parametrize("num_gpus", [1, 2])
@pytest.mark.parametrize("is_job", [False, True])
def test_no_gpu_is_used_before_cublas_is_prepared(
    experiment: Composed, monkeypatch: pytest.MonkeyPatch, num_gpus: int, is_job: bool
) -> None:
    """From the command, or in a job, to the runtime that the steps get; a process chooses one of several GPUs."""
    gpus, chosen = Gpus(monkeypatch, num_gpus), experiment("deterministic=true", "device=cuda")
    if not is_job:
        prepare(chosen, Placement.from_environment({}))
    with runtime_of(chosen, Placement.from_environment({}), Event()) as runtime:
        assert (runtime.device.type, runtime.numerics) == ("cuda", Numerics(deterministic=True))
    assert gpus.prepared == ":4096:8"


def test_both_stages_have_the_same_bits_with_deterministic_algorithms_on_a_cpu(
    shared_experiment: Composed, experiment: Composed
) -> None:
    few = ("recipe.inject.steps=2", "recipe.tune.steps=2")
    default, deterministic = shared_experiment(*few), experiment(*few, "deterministic=true")
    generators = []
    for chosen in (default, deterministic):
        tune: Tune = steps_of([chosen]).evaluations[0].tune
        for step in in_order(tune):
            step.run(runtime_from(settings_of(chosen)))
        generators.append((tune.folder / "generator.safetensors").read_bytes())
    assert generators[0] == generators[1]
    assert tune.environment()["deterministic"] is True
    assert runtime_here("cpu", 1, deterministic=True).alone().numerics == Numerics(deterministic=True)
