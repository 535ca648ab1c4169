"""A generator on disk, and back.

generator.json         what it was built from: backbone, generator config, its tasks
generator.safetensors  parameter tokens, projection, patch embedding; of every task the scale, and how its raw samples
                       are prepared (images: mean and std; texts: the table of the frozen embedding)
adapter/               the LoRA as peft writes it: PeftModel.from_pretrained(backbone, folder/adapter)
"""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from neurogen import store
from neurogen.config import BackboneConfig, DatasetConfig, GeneratorConfig, TargetConfig
from neurogen.data.preparation import ImageShape, Normalisation, TextShape, TokenEmbedding
from neurogen.errors import UserError
from neurogen.experiment import typed
from neurogen.generator.backbone import load_backbone
from neurogen.generator.generator import Generator
from neurogen.generator.task import Task
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.runtime import Runtime


def build_generator(
    backbone: BackboneConfig, config: GeneratorConfig, tasks: list[Task], seed: int, runtime: Runtime
) -> Generator:
    """An untrained generator on the runtime's device."""
    loaded = load_backbone(backbone, runtime, seed)
    return Generator(loaded, {task.name: task for task in tasks}, config, seed).to(runtime.device)


def save_generator(generator: Generator, backbone: BackboneConfig, folder: Path) -> None:
    """Write the three parts; the caller marks the folder as done afterwards."""
    # left to itself peft would ask the hub whether the vocabulary has changed; here it never does
    with store.writing(folder / "adapter"):
        generator.backbone.model.save_pretrained(folder / "adapter", save_embedding_layers=False)
    tensors = {name: value.detach() for name, value in generator.trainables.items() if not name.startswith("backbone.")}
    tasks = {}
    for name, task in generator.tasks.items():
        tensors |= {
            f"{name}/scale.mean": task.scale.mean,
            f"{name}/scale.std": task.scale.std,
        }
        for part in fields(task.preparation):
            tensors[f"{name}/preparation.{part.name}"] = getattr(task.preparation, part.name).clone()  # may be shared
        described = {part: asdict(getattr(task, part)) for part in ("dataset", "target", "shape")}
        tasks[name] = {**described, "class_names": list(task.class_names), "fingerprint": task.fingerprint}
    store.write_tensors(folder / "generator.safetensors", tensors)
    about = {"backbone": asdict(backbone), "generator": asdict(generator.config), "tasks": tasks}
    store.write_json(folder / "generator.json", about)


def load_generator(folder: Path, runtime: Runtime, gradient_checkpointing: bool = False) -> Generator:
    """A saved generator, ready to generate or to be tuned on. Raises UserError for a broken or foreign folder."""
    tensors = _tensors(folder / "generator.safetensors")
    adapter = _tensors(folder / "adapter" / "adapter_model.safetensors")
    about = store.read_json(folder / "generator.json")
    try:
        backbone = replace(typed(BackboneConfig, about["backbone"]), gradient_checkpointing=gradient_checkpointing)
        config = typed(GeneratorConfig, about["generator"])
        tasks = [_task(name, task, tensors, config) for name, task in about["tasks"].items()]
    except (KeyError, TypeError, UserError) as error:
        raise UserError(f"{folder} holds no generator of this version ({error})") from error
    generator = build_generator(backbone, config, tasks, 0, runtime)
    _load_values(generator, tensors, adapter, folder)
    return generator


def _task(name: str, about: dict[str, Any], tensors: dict[str, Tensor], config: GeneratorConfig) -> Task:
    """Takes the task's own tensors out of `tensors`."""
    dataset, target = typed(DatasetConfig, about["dataset"]), typed(TargetConfig, about["target"])
    is_text = dataset.text is not None
    shape = TextShape(**about["shape"]) if is_text else ImageShape(**about["shape"])
    layout = ParameterLayout.of(build_network(target, shape))
    scale = Scale(layout, tensors.pop(f"{name}/scale.mean"), tensors.pop(f"{name}/scale.std"), config.soft_clip)
    kind = TokenEmbedding if is_text else Normalisation
    preparation = kind(**{part.name: tensors.pop(f"{name}/preparation.{part.name}") for part in fields(kind)})
    return Task(dataset, target, tuple(about["class_names"]), shape, preparation, about["fingerprint"], scale)


def _load_values(generator: Generator, own: dict[str, Tensor], adapter: dict[str, Tensor], folder: Path) -> None:
    """peft leaves the adapter's name ('default') out of the file's keys."""
    saved = own | {
        "backbone.model." + name.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default."): value
        for name, value in adapter.items()
    }
    trainables = generator.trainables
    shapes, expected = ({name: value.shape for name, value in found.items()} for found in (saved, trainables))
    differing = sorted(name for name in shapes | expected if shapes.get(name) != expected.get(name))
    if differing:
        raise UserError(f"{folder} does not fit its own description: it differs in {', '.join(differing[:3])}")
    with torch.no_grad():
        for name, value in trainables.items():
            value.copy_(saved[name])


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} is missing or broken ({error}); give the folder of a finished inject or tune step"
        ) from error
