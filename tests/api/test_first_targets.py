"""First targets of a user, which forget something: one line each, before anything is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from neurogen.data.dataset import Split, load_images
from neurogen.data.preparation import ImageShape
from neurogen.errors import UserError
from neurogen.targets.fitting import initialised
from tests.conftest import Composed


def too_many(shape: ImageShape) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20))


def too_few(shape: ImageShape) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))


def forgotten(shape: ImageShape) -> None:
    nn.Sequential(nn.Flatten(), nn.Linear(64, shape.num_classes))


def nothing_to_train(shape: ImageShape) -> nn.Module:
    return nn.Flatten()


def does_not_fit(shape: ImageShape) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(7, shape.num_classes))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, int]:
        return self.layer(images.flatten(1)), 1


def two_results(shape: ImageShape) -> nn.Module:
    return Two()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("too_many", r"gives \[2, 20\] for two samples, and must give \[2, 10\], a logit for each of the 10 classes"),
        ("too_few", r"gives \[2, 5\] for two samples"),
        ("forgotten", "returned a NoneType; let it return a torch.nn.Module"),
        ("nothing_to_train", "no trainable parameters"),
        ("does_not_fit", r"fails for two samples of the shape \[1, 8, 8\]: .*\(RuntimeError\)"),
        ("two_results", "gives a tuple for two samples"),
    ],
)
def test_what_a_target_forgets_is_said(experiment: Composed, name: str, message: str) -> None:
    chosen = experiment()
    target = replace(chosen.target, build=f"{__name__}.{name}", options={})
    with pytest.raises(UserError, match=message):
        initialised(target, load_images(chosen.dataset), 0)


def test_the_data_may_be_on_another_device(experiment: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a zoo are on a GPU, while its networks are built on the CPU."""
    chosen, moved, inputs = experiment(), list[str](), Split.inputs

    class Elsewhere(torch.Tensor):
        def cpu(self, *_: object) -> torch.Tensor:  # type: ignore[override]
            moved.append("cpu")
            return self.as_subclass(torch.Tensor)

    monkeypatch.setattr(Split, "inputs", lambda self, index: inputs(self, index).as_subclass(Elsewhere))
    initialised(chosen.target, load_images(chosen.dataset), 0)
    assert moved == ["cpu"]
