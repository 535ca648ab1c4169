"""From Python: a finished generator is loaded, reads a user's samples, and gives networks that can be called."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits

import neurogen
from neurogen import LoadedGenerator
from neurogen.data.dataset import load_images
from neurogen.data.preparation import ImageShape
from neurogen.generate import parse, write_networks
from neurogen.study.pipeline import Evaluate
from neurogen.targets.networks import cnn
from neurogen.targets.prediction import Batches
from tests.conftest import Program, error_line
from tests.training.test_numerics import settings

DIGITS = load_digits()
IMAGES = np.round(DIGITS.images * (255 / 16)).astype(np.uint8)
REVIEWS = ["a dull film", "a joy", "so bad", "fine work"]
FRESH = ["rotten", "fresh", "rotten", "fresh"]


def test_a_generator_gives_a_network_that_reads_raw_images(generator: LoadedGenerator) -> None:
    assert generator.tasks == ("digits-cnn_small",)
    network = generator.generate(IMAGES[:40], DIGITS.target[:40])
    assert isinstance(network, torch.nn.Module)
    logits = network(IMAGES[:5])
    assert logits.shape == (5, 10)
    for same in (torch.from_numpy(IMAGES[:5, None]), IMAGES[:5] / 255, list(IMAGES[:5])):
        assert torch.equal(network(same), logits)
    assert network.predict(IMAGES[:5]) == [network.class_names[index] for index in logits.argmax(1).tolist()]
    right = np.mean([int(name) for name in network.predict(IMAGES)] == DIGITS.target)
    assert network.accuracy(IMAGES, DIGITS.target) == pytest.approx(right)
    assert right > 0.4


def test_the_bare_network_is_the_target_in_plain_torch(
    images: Evaluate, generator: LoadedGenerator, tmp_path: Path
) -> None:
    network = generator.generate()
    network.save(tmp_path / "network.safetensors")
    test = load_images(images.task.dataset).test
    bare = cnn(ImageShape(1, 8, 8, 10), [16, 32])
    bare.load_state_dict(load_file(tmp_path / "network.safetensors"))
    assert torch.equal(bare(test.inputs(slice(8))), network(test.samples[:8]))


def test_several_networks_come_from_several_contexts(generator: LoadedGenerator) -> None:
    first, second = generator.generate(IMAGES, DIGITS.target, num_networks=2, instruction="A CNN for digits")
    assert first.prompt is not None
    assert second.prompt is not None
    assert first.prompt.instruction == "A CNN for digits"
    assert len(first.prompt.labels) == 4
    assert not torch.equal(first.network[0].weight, second.network[0].weight)
    (again,) = generator.generate(IMAGES, DIGITS.target, num_networks=1, instruction="A CNN for digits")
    assert torch.equal(again.network[0].weight, first.network[0].weight)
    (other,) = generator.generate(IMAGES, DIGITS.target, num_networks=1, instruction="A CNN for digits", seed=1)
    assert other.prompt != first.prompt


def test_texts_are_a_list_of_strings(texts: Evaluate, text_generator: LoadedGenerator) -> None:
    network = text_generator.generate(REVIEWS, FRESH)
    assert network.class_names == ("rotten", "fresh")
    logits = network(REVIEWS)
    assert logits.shape == (4, 2)
    torch.testing.assert_close(network(REVIEWS[:1]), logits[:1])  # what pads a longer neighbour changes nothing
    assert network.accuracy(REVIEWS, [0, 1, 0, 1]) == network.accuracy(REVIEWS, FRESH)
    dataset = texts.task.load()
    assert network.accuracy_on(dataset.test) == pytest.approx(
        float((network(dataset.test.samples[:]).argmax(1) == dataset.test.labels).double().mean())
    )


def test_generators_and_networks_compute_in_float32(generator: LoadedGenerator) -> None:
    before, seen = settings(), list[tuple[bool, str, str]]()
    hook = generator.module.register_forward_hook(lambda *_: seen.append(settings()))
    network = generator.generate(IMAGES[:40], DIGITS.target[:40])
    hook.remove()
    network.network.register_forward_hook(lambda *_: seen.append(settings()))
    network(IMAGES[:5])
    network.predict(IMAGES[:5])
    network.accuracy(IMAGES[:5], DIGITS.target[:5])
    assert seen == [(False, "ieee", "ieee")] * 4
    assert settings() == before


def test_networks_of_a_command_share_prepared_data(
    generator: LoadedGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, prepare = list[Batches](), Batches.__init__

    def counted(batches: Batches, *about: Any) -> None:
        made.append(batches)
        prepare(batches, *about)

    monkeypatch.setattr(Batches, "__init__", counted)
    words = [f"generator={generator.folder}", "num_networks=3", "test=own", f"out={tmp_path}/network.safetensors"]
    write_networks(parse([*words, "device=cpu"]))
    assert len(made) == 1
    assert capsys.readouterr().out.count("(n = 359)") == 3


@pytest.mark.parametrize(
    ("samples", "labels", "options", "message"),
    [
        (IMAGES * 1.0, DIGITS.target, {}, "floats from 0 to 255; give floats from 0 to 1"),
        (IMAGES.astype(np.int64), DIGITS.target, {}, "the type int64; give bytes"),
        (IMAGES[:, :4], DIGITS.target, {}, "[1, 4, 8] (channels, height, width), and digits has [1, 8, 8]"),
        (IMAGES[:5, :, :, None].repeat(3, 3), DIGITS.target[:5], {}, "images.transpose(0, 3, 1, 2)"),
        (IMAGES, DIGITS.target[:5], {}, "1,797 samples and 5 labels"),
        (IMAGES, DIGITS.target + 1, {}, "beside 0 … 9"),
        (IMAGES, ["a"] * len(IMAGES), {}, "'a'; allowed: 0, 1, 2"),
        (IMAGES, None, {}, "belong together"),
        (IMAGES, 3, {}, "labels= are a int; give a list or an array"),
        ([], [], {}, "the images are an empty list; give at least one"),
        (None, DIGITS.target, {}, "belong together"),
        (IMAGES, DIGITS.target, {"num_networks": 0}, "at least 1"),
        (IMAGES, DIGITS.target, {"task": "digits-rnn"}, "allowed: digits-cnn_small"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(
    generator: LoadedGenerator, samples: object, labels: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(neurogen.UserError, match=re.escape(message)) as caught:
        generator.generate(samples, labels, **options)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("samples", "message"), [("a film", "give a list of strings"), (IMAGES, "are texts")])
def test_what_is_no_text_is_refused(text_generator: LoadedGenerator, samples: object, message: str) -> None:
    with pytest.raises(neurogen.UserError, match=message):
        text_generator.generate(samples, [0])


def test_a_network_names_what_it_cannot_read(generator: LoadedGenerator, text_generator: LoadedGenerator) -> None:
    network = generator.generate(IMAGES[:40], DIGITS.target[:40])
    whole = torch.from_numpy(IMAGES[:5, None] // 128 * 255)
    assert torch.equal(network((whole / 255).bfloat16()), network(whole))
    with pytest.raises(neurogen.UserError, match="labels= are a NoneType; give a list or an array"):
        network.accuracy(IMAGES, None)
    reviews = text_generator.generate(REVIEWS, FRESH)
    for use in (reviews, reviews.predict, lambda texts: reviews.accuracy(texts, [])):
        with pytest.raises(neurogen.UserError, match="are an empty list; give at least one text"):
            use([])


def test_a_folder_without_a_generator_is_named(tmp_path: Path) -> None:
    with pytest.raises(neurogen.UserError, match=r"generator.json is missing: give the folder of a finished tune"):
        neurogen.load(tmp_path)


def test_the_command_writes_what_python_generates(
    images: Evaluate, generator: LoadedGenerator, program: Program, tmp_path: Path
) -> None:
    """Options and KEY=VALUE words are the same."""
    folder = images.tune.folder
    network = generator.generate(instruction="a = b", seed=3)
    assert program("generate", "--generator", str(folder), "--instruction", "a = b", "--seed=3").returncode == 0
    words = program("generate", f"generator={folder}", "instruction=a = b", "seed=3", "out=words.safetensors")
    assert words.returncode == 0, words.stderr
    assert (
        f"instruction  a = b\nnetwork      words.safetensors  from samples of {', '.join(network.prompt.labels)};"
        in (words.stdout)
    )
    for name in ("network", "words"):
        for key, value in load_file(tmp_path / f"{name}.safetensors").items():
            assert torch.equal(value, network.network.state_dict()[key])
    assert "expected one argument" in error_line(program("generate", "--generator"))


@pytest.mark.parametrize("words", [["generate", "--help"], ["--help"], ["status", "--help"], ["data", "--help"]])
def test_help_needs_no_torch(words: list[str]) -> None:
    code = (
        "import sys, neurogen.__main__ as command\n"
        f"sys.argv = ['neurogen', *{words}]\n"
        "try: command.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'numpy', 'hydra', 'omegaconf'} & set(sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "usage: neurogen" in shown.stdout
