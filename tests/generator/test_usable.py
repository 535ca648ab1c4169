"""What can be a backbone, and what is refused before a zoo is trained: real models of a few kilobytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from neurogen.errors import UserError
from neurogen.generator.pretrained import byte_tokenizer
from neurogen.generator.usable import kind_of, positions_of, require_usable
from tests.conftest import TINY, Composed, Program, error_line

SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 512, "bos_token_id": 0, "eos_token_id": 0},
    "bert": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
    "t5": {"d_model": 32, "num_layers": 1, "num_heads": 2, "d_ff": 64, "d_kv": 16},
}


def saved(
    folder: Path, kind: str = "gpt2", vocabulary: int = 300, sizes: dict[str, Any] | None = None, **options: Any
) -> Path:
    """A model with random weights and a tokenizer, as save_pretrained writes them with these options."""
    architecture = AutoConfig.for_model(kind, vocab_size=vocabulary, **SIZES[kind] | (sizes or {}))
    auto = AutoModelForCausalLM if kind == "gpt2" else AutoModel
    auto.from_config(architecture).save_pretrained(folder, **options)
    byte_tokenizer(architecture).save_pretrained(folder)
    return folder


def without_tokenizer(folder: Path) -> None:
    for path in saved(folder).glob("tokenizer*"):
        path.unlink()


def of_another_tokenizer(folder: Path) -> None:
    saved(folder, vocabulary=100)


def broken(folder: Path) -> None:
    weights = saved(folder) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def without_a_shard(folder: Path) -> None:
    sorted(saved(folder, max_shard_size="20KB").glob("model-*.safetensors"))[1].unlink()


def without_weights(folder: Path) -> None:
    (saved(folder) / "model.safetensors").unlink()


def with_pickled_weights(folder: Path) -> None:
    (saved(folder) / "model.safetensors").rename(folder / "pytorch_model.bin")


def with_weights_elsewhere(folder: Path) -> None:
    index = {"weight_map": {"a": "../elsewhere/model.safetensors"}}
    (saved(folder) / "model.safetensors.index.json").write_text(json.dumps(index))


def with_a_broken_index(folder: Path) -> None:
    (saved(folder) / "model.safetensors.index.json").write_text('{"weight_map": ["a"]}')


def without_config(folder: Path) -> None:
    (saved(folder) / "config.json").unlink()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: saved(folder, "bert"), r"model \(bert\) is an encoder; a generator needs a decoder"),
        (lambda folder: saved(folder, "t5"), r"model \(t5\) is an encoder-decoder; a generator needs a decoder"),
        (without_tokenizer, r"model has no tokenizer: put tokenizer.json"),
        (of_another_tokenizer, r"has 258 tokens and its model embeds 100; they belong to different models"),
        (broken, r"weights in .*model.safetensors are missing or broken"),
        (without_a_shard, r"weights in .*model-00002-of-00005.safetensors are missing or broken"),
        (without_weights, r"model cannot be read: it has no weights \(model.safetensors\)"),
        (with_pickled_weights, r"model cannot be read: it has its weights only as pytorch_model\*.bin"),
        (with_weights_elsewhere, r"index.json names '../elsewhere/model.safetensors', which is no part of a model"),
        (with_a_broken_index, r"index.json is no list of weights"),
        (without_config, r"model holds no model that transformers can load"),
    ],
)
def test_a_folder_that_cannot_be_a_backbone_is_refused(
    experiment: Composed, tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / "model")
    config = experiment("backbone=causal_lm", f"backbone.model={tmp_path}/model").backbone
    with pytest.raises(UserError, match=message) as caught:
        require_usable(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"max_shard_size": "20KB"}, {"safe_serialization": False}])
def test_a_folder_of_a_decoder_is_usable(experiment: Composed, tmp_path: Path, options: dict[str, Any]) -> None:
    saved(tmp_path / "model", **options)
    require_usable(experiment("backbone=causal_lm", f"backbone.model={tmp_path}/model").backbone)


@pytest.mark.parametrize(
    ("kind", "types"),
    [
        ("decoder", "llama gpt2 gptj mistral qwen2 qwen3 phi3 gemma3_text gemma3 opt bloom falcon mamba qwen2_vl"),
        ("an encoder", "bert roberta distilbert albert electra deberta-v2 modernbert xlm-roberta xlnet"),
        ("an encoder-decoder", "t5 bart mbart pegasus whisper marian"),
        ("no language model", "vit clip wav2vec2"),
    ],
)
def test_what_a_model_is(kind: str, types: str) -> None:
    assert {name: kind_of(AutoConfig.for_model(name)) for name in types.split()} == dict.fromkeys(types.split(), kind)


def test_what_the_config_of_a_model_makes_of_it() -> None:
    assert kind_of(AutoConfig.for_model("bert", is_decoder=True)) == "decoder"
    assert kind_of(AutoConfig.for_model("gemma3_text", use_bidirectional_attention=True)) == "an encoder"


@pytest.mark.parametrize(
    ("kind", "options", "positions"),
    [
        ("gpt2", {"n_positions": 64}, 64),
        ("llama", {"max_position_embeddings": 8192}, 8192),
        ("qwen2_vl", {}, 32768),
        ("bloom", {}, None),
        ("mamba", {}, None),
        ("falcon", {"alibi": True}, None),
    ],
)
def test_how_much_a_model_reads(kind: str, options: dict[str, Any], positions: int | None) -> None:
    assert positions_of(AutoConfig.for_model(kind, **options)) == positions


def test_an_encoder_is_refused_before_a_zoo_is_trained(program: Program, tmp_path: Path) -> None:
    saved(tmp_path / "model", "bert")
    line = error_line(program("run", *TINY, "backbone=causal_lm", "backbone.model=model"))
    assert "backbone model (bert) is an encoder" in line
    assert not list(tmp_path.glob("runs/reference/*"))
    line = error_line(program("run", "-m", *TINY, "seed=0,1", "backbone=causal_lm", "backbone.model=model"))
    assert "backbone model (bert) is an encoder" in line
    assert not list(tmp_path.glob("runs/reference/*"))
    architecture = json.dumps({"model_type": "bert", "vocab_size": 264, **SIZES["bert"]}).replace('"', "")
    line = error_line(program("run", *TINY, f"backbone.architecture={architecture}"))
    assert "backbone tiny_llama (bert) is an encoder" in line
