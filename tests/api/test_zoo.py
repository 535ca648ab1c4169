"""A trained zoo from its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import neurogen
from neurogen import store
from neurogen.study.pipeline import Evaluate


def test_a_zoo_of_images_is_read_from_its_folder(images: Evaluate) -> None:
    (reference,) = images.zoo.references
    zoo = neurogen.load_zoo(reference.folder)
    assert (len(zoo), zoo.flat.shape) == (3, (3, zoo.layout.num_parameters))
    test = images.task.load().test
    populations = images.metrics()["populations"]
    assert [network.accuracy_on(test) for network in zoo] == pytest.approx(populations["zoo"]["accuracy"])
    assert [zoo.mean().accuracy_on(test)] == pytest.approx(populations["zoo_mean_network"]["accuracy"])
    assert torch.equal(zoo[-1](test.samples), zoo.network(zoo.flat[2])(test.samples))
    with pytest.raises(IndexError):
        zoo[3]
    assert len(neurogen.load_zoo(images.classical.folder)) == 2


def test_a_zoo_of_texts_finds_their_tokens(texts: Evaluate) -> None:
    zoo = neurogen.load_zoo(str(texts.zoo.references[0].folder))
    assert zoo[0](["a joy", "a dull film"]).shape == (2, 2)


def test_a_folder_that_is_no_zoo_is_named(images: Evaluate, tmp_path: Path) -> None:
    with pytest.raises(neurogen.UserError, match="is no finished step"):
        neurogen.load_zoo(tmp_path)
    with pytest.raises(neurogen.UserError, match="is a step tune; give root/reference/FOLDER"):
        neurogen.load_zoo(images.tune.folder)


def test_a_broken_network_is_named(images: Evaluate, tmp_path: Path) -> None:
    source, copy = images.zoo.references[0].folder, tmp_path / "reference" / "zoo"
    copy.mkdir(parents=True)
    for path in source.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    (copy / "network-0001.safetensors").write_bytes(b"half")
    assert store.is_done(copy)
    with pytest.raises(neurogen.UserError, match=r"network-0001.safetensors is not what its step wrote"):
        neurogen.load_zoo(copy)
