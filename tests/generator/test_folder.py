"""A generator on disk."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlamaForCausalLM, LlamaModel

from neurogen import store
from neurogen.config import Duplicates
from neurogen.data.dataset import load_images
from neurogen.errors import UserError
from neurogen.generator.context import Context
from neurogen.generator.folder import (
    TaskDescription,
    build_generator,
    load_generator,
    read_description,
    save_generator,
)
from neurogen.generator.generator import Generator
from neurogen.generator.prompts import Prompt
from neurogen.generator.task import Task
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.runtime import Runtime
from tests.conftest import Composed
from tests.programs import run_forked


@pytest.fixture(params=["tiny_llama", "tiny_qwen2_vl"])
def saved(
    request: pytest.FixtureRequest, experiment: Composed, runtime: Runtime, tmp_path: Path
) -> tuple[Generator, Context, Path]:
    """A tiny generator whose LoRA does something, in a folder."""
    point = experiment(f"backbone={request.param}")
    dataset = load_images(point.dataset)
    scale = Scale.of_fan_in(ParameterLayout.of(build_network(point.target, dataset.shape)), None)
    task = Task.of(dataset, point.dataset, point.target, scale)
    generator = build_generator(point.backbone, point.generator, [task], 0, runtime)
    with torch.no_grad():
        for value in generator.trainables.values():
            value.add_(0.1 * torch.randn(value.shape))
    save_generator(generator, point.backbone, tmp_path / "saved")
    context = Context.of(dataset.train, dataset.class_names, dataset.train.sample(3, torch.Generator().manual_seed(0)))
    return generator, context, tmp_path / "saved"


def test_a_saved_generator_generates_the_same_bits(saved: tuple[Generator, Context, Path], runtime: Runtime) -> None:
    generator, context, folder = saved
    loaded = load_generator(folder, runtime)
    (name,) = loaded.tasks
    with torch.no_grad():
        prompts = [Prompt("an instruction", context)]
        assert torch.equal(loaded(name, prompts), generator(name, prompts))


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
    states = model(inputs_embeds=io["embeddings"]).last_hidden_state
torch.testing.assert_close(states, io["expected"])
assert not any(name.startswith("neurogen") for name in sys.modules)
"""
    (tmp_path / "plain.py").write_text(program)
    words = ["plain", str(tmp_path / "base"), str(folder / "adapter"), str(tmp_path / "io.pt")]
    process = run_forked(words, tmp_path, os.environ)
    assert process.returncode == 0, process.stderr


def test_a_folder_says_how_tables_write_the_classes(saved: tuple[Generator, Context, Path]) -> None:
    generator, _, folder = saved
    (name, task), *_ = generator.tasks.items()
    assert read_description(folder).tasks[name].source_labels is None
    digits = tuple(str(digit) for digit in range(10))
    about = store.read_json(folder / "generator.json")
    about["tasks"][name] |= asdict(TaskDescription.of(replace(task, source_labels=digits)))
    store.write_json(folder / "generator.json", about)
    assert read_description(folder).tasks[name].source_labels == digits
    assert read_description(folder).tasks[name].dataset.duplicates == Duplicates.drop


def test_a_folder_of_an_earlier_version_kept_duplicates(saved: tuple[Generator, Context, Path]) -> None:
    _, _, folder = saved
    about = store.read_json(folder / "generator.json")
    (task,) = about["tasks"].values()
    del task["source_labels"], task["dataset"]["duplicates"]
    store.write_json(folder / "generator.json", about)
    (description,) = read_description(folder).tasks.values()
    assert (description.source_labels, description.dataset.duplicates) == (None, Duplicates.keep)


def test_the_adapter_says_of_what_class_it_is(saved: tuple[Generator, Context, Path], tmp_path: Path) -> None:
    """On another class peft loads nothing, and says so."""
    generator, _, folder = saved
    base = generator.backbone.model.unload()
    about = json.loads((folder / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert about["auto_mapping"]["base_model_class"] == type(base).__name__
    card = (folder / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "an adapter of transformers' class `AutoModel`" in card
    assert "On an `AutoModelForCausalLM` peft finds no place for its tensors" in card
    if not isinstance(base, LlamaModel):
        return  # a vision model has no causal form
    with pytest.warns(UserWarning, match="Found missing adapter keys"):
        PeftModel.from_pretrained(LlamaForCausalLM(base.config), folder / "adapter")


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


@pytest.mark.parametrize("saved", ["tiny_llama"], indirect=True)
def test_a_step_calls_no_function_that_only_the_folder_names(
    saved: tuple[Generator, Context, Path], runtime: Runtime
) -> None:
    """Others may have written it, where a root is shared."""
    generator, _, folder = saved
    about = store.read_json(folder / "generator.json")
    ((name, task),) = about["tasks"].items()
    task["target"]["build"] = "os.system"
    store.write_json(folder / "generator.json", about)
    with pytest.raises(UserError, match=r"saved names the function os\.system, which is no target of this step"):
        load_generator(folder, runtime, targets=[generator.tasks[name].target])
