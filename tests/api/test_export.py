"""A generated network as a program: it runs in a process that has torch and nothing of ours."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import neurogen
from neurogen import Classifier, LoadedGenerator
from neurogen.api.samples import SampleReader
from neurogen.data.preparation import TextShape, TokenEmbedding
from neurogen.study.pipeline import Evaluate
from neurogen.targets.networks import rnn
from tests.conftest import Program

FOREIGN = """
import importlib.util, json, sys
sys.path.append(sys.argv[1])  # torch and what it needs; no .pth file is followed, so no checkout is found
assert importlib.util.find_spec("neurogen") is None
import torch
about = {"about.json": ""}
program = torch.export.load(sys.argv[2], extra_files=about).module()
batches = torch.load(sys.argv[3])
torch.save([program(batch) for batch in batches], sys.argv[4])
assert not {"transformers", "peft", "safetensors", "hydra", "neurogen"} & set(sys.modules)
print(about["about.json"])
"""


def run_elsewhere(program: Path, batches: list[Tensor], folder: Path) -> tuple[list[Tensor], dict[str, object]]:
    """(logits of every batch, about.json) from a process that cannot import neurogen."""
    torch.save(batches, folder / "batches.pt")
    site, paths = sysconfig.get_path("purelib"), [program, folder / "batches.pt", folder / "logits.pt"]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", FOREIGN, site, *paths], cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "logits.pt"), json.loads(done.stdout)


def test_an_image_network_takes_raw_bytes(generator: LoadedGenerator, tmp_path: Path) -> None:
    network = generator.generate(instruction="A CNN for digits")
    network.save(tmp_path / "net.pt2")
    batches = [torch.from_numpy(np.random.default_rng(n).integers(0, 256, (n, 1, 8, 8), np.uint8)) for n in (1, 2, 37)]
    logits, about = run_elsewhere(tmp_path / "net.pt2", batches, tmp_path)
    for batch, exported in zip(batches, logits, strict=True):
        torch.testing.assert_close(exported, network(batch))
    assert about == {
        "classes": [str(digit) for digit in range(10)],
        "takes": {"type": "uint8", "shape": ["samples", 1, 8, 8]},
        "dataset": "digits",
        "target": "cnn_small",
        "instruction": "A CNN for digits",
    }


def test_a_text_network_takes_token_ids(texts: Evaluate, text_generator: LoadedGenerator, tmp_path: Path) -> None:
    network = text_generator.generate(["a joy", "so bad"], ["fresh", "rotten"])
    network.save(tmp_path / "net.pt2")
    ids = torch.full((3, 24), -1)
    for row, text in enumerate(("a joy", "a dull film", "x")):
        tokens = network.reader.samples([text])[0]
        ids[row, : len(tokens)] = tokens
    (logits,), about = run_elsewhere(tmp_path / "net.pt2", [ids], tmp_path)
    torch.testing.assert_close(logits, network(["a joy", "a dull film", "x"]))
    assert about["takes"] == {"type": "int64", "shape": ["samples", 24]}


@pytest.fixture
def recurrent(texts: Evaluate) -> Classifier:
    """An RNN with random weights, on the texts of the other network."""
    dataset = texts.task.load()
    torch.manual_seed(0)
    network = rnn(TextShape(16, 2), 8)
    assert isinstance(dataset.preparation, TokenEmbedding)
    reader = SampleReader(
        texts.task.dataset, dataset.shape, dataset.class_names, dataset.preparation, None, "lab/llama"
    )
    return Classifier(network, network.state_dict(), reader)


def test_a_recurrent_network_runs_with_any_number_of_texts(
    texts: Evaluate, recurrent: Classifier, tmp_path: Path
) -> None:
    recurrent.save(tmp_path / "net.pt2")
    samples = texts.task.load().test.samples[:50]
    ids = nn.functional.pad(samples, (0, 24 - samples.shape[1]), value=-1)
    logits, about = run_elsewhere(tmp_path / "net.pt2", [ids, ids[:1]], tmp_path)
    torch.testing.assert_close(logits[0], recurrent(samples))
    torch.testing.assert_close(logits[1], recurrent(samples[:1]))
    assert about["tokenizer"] == "lab/llama"


class Doubtful(nn.Module):
    """Its way depends on the data, which no program can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images.flatten(1))
        return logits if logits.sum().item() > 0 else -logits


def test_what_cannot_be_written_is_said_in_one_line(generator: LoadedGenerator, tmp_path: Path) -> None:
    network = Doubtful()
    doubtful = Classifier(network, network.state_dict(), generator.reader("digits-cnn_small"))
    with pytest.raises(neurogen.UserError, match="torch cannot export this target") as caught:
        doubtful.save(tmp_path / "net.pt2")
    assert "\n" not in str(caught.value)
    with pytest.raises(neurogen.UserError, match=re.escape("net.onnx must end in .safetensors or .pt2")):
        doubtful.save(tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_programs(images: Evaluate, program: Program, tmp_path: Path) -> None:
    words = ["--generator", str(images.tune.folder), "--out", "nets/cnn.pt2", "--num-networks", "2", "--test=own"]
    done = program("generate", *words)
    assert done.returncode == 0, done.stderr
    said = [float(accuracy) for accuracy in re.findall(r"test accuracy ([\d.]+) %", done.stdout)]
    test = images.task.load().test
    for index in range(2):
        network = torch.export.load(tmp_path / "nets" / f"cnn-{index}.pt2").module()
        right = (network(test.samples).argmax(1) == test.labels).double().mean()
        assert round(100 * float(right), 2) == said[index]
