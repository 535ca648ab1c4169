"""A generator on disk, and back.

generator.json         what it was built from: backbone, generator config, its tasks
generator.safetensors  parameter tokens, projection, patch embedding; of every task the scale, and how its raw samples
                       are prepared (images: mean and std; texts: the table of the frozen embedding)
adapter/               the LoRA as peft writes it: PeftModel.from_pretrained(backbone, folder/adapter)
README.md              the model card, here and in adapter/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from neurogen import store
from neurogen.config import BackboneConfig, DatasetConfig, Duplicates, GeneratorConfig, TargetConfig
from neurogen.data.identity import identity_of_target, require_same_code
from neurogen.data.preparation import DataShape, ImageShape, Normalisation, TextShape, TokenEmbedding
from neurogen.errors import UserError
from neurogen.experiment import typed
from neurogen.generator.card import adapter_card, generator_card
from neurogen.generator.generator import Generator
from neurogen.generator.known import KnownRows
from neurogen.generator.loading import load_backbone
from neurogen.generator.task import Task
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.memory import return_freed_memory
from neurogen.training.runtime import Runtime

DESCRIPTION_FILE, TENSORS_FILE = "generator.json", "generator.safetensors"
ANEW = "copy the folder again, or delete it and train anew"  # what to do about one that is not whole


@dataclass(frozen=True)
class TaskDescription:
    """A task in generator.json: all that a generator knows of it but its tensors."""

    dataset: DatasetConfig
    target: TargetConfig
    shape: DataShape
    class_names: tuple[str, ...]
    fingerprint: str  # of the dataset that it was trained on
    source_labels: tuple[str, ...] | None
    source: str | None  # digest of the code of a user's own target

    @staticmethod
    def of(task: Task) -> TaskDescription:
        """The description of a task."""
        known = {item.name: getattr(task, item.name) for item in fields(TaskDescription) if item.name != "source"}
        return TaskDescription(**known, source=identity_of_target(task.target))

    @staticmethod
    def from_json(plain: dict[str, Any]) -> TaskDescription:
        """Raises UserError, KeyError or TypeError where something is missing or unknown."""
        # folders of earlier versions lack these two: no duplicates were taken out, and labels are names or numbers
        values, source_labels = {"duplicates": Duplicates.keep} | plain["dataset"], plain.get("source_labels")
        dataset, target = typed(DatasetConfig, values), typed(TargetConfig, plain["target"])
        shape = (ImageShape if dataset.text is None else TextShape)(**plain["shape"])
        class_names, fingerprint = tuple(plain["class_names"]), plain["fingerprint"]
        labels = None if source_labels is None else tuple(source_labels)
        return TaskDescription(dataset, target, shape, class_names, fingerprint, labels, plain.get("source"))


@dataclass(frozen=True)
class Description:
    """generator.json."""

    backbone: BackboneConfig
    generator: GeneratorConfig
    tasks: dict[str, TaskDescription]

    def write(self, folder: Path) -> None:
        """Raises UserError where the file cannot be written."""
        store.write_json(folder / DESCRIPTION_FILE, asdict(self))


def read_description(folder: Path) -> Description:
    """What a saved generator was built from. Raises UserError for a broken or foreign file."""
    plain = store.read_json(folder / DESCRIPTION_FILE)
    try:
        tasks = {name: TaskDescription.from_json(task) for name, task in plain["tasks"].items()}
        values = {"random_on_device": False, "reset_seed": None} | plain["backbone"]  # older versions had no such keys
        backbone, config = typed(BackboneConfig, values), typed(GeneratorConfig, plain["generator"])
        return Description(backbone, config, tasks)
    except (LookupError, TypeError, AttributeError, ValueError) as error:  # a UserError is a ValueError
        raise UserError(
            f"{folder} holds no generator of this version ({error}); train it again, or load it with the right one"
        ) from error


def build_generator(
    backbone: BackboneConfig, config: GeneratorConfig, tasks: list[Task], seed: int, runtime: Runtime
) -> Generator:
    """An untrained generator on the runtime's device."""
    loaded = load_backbone(backbone, runtime, seed)
    if config.block_tokens is not None:
        return_freed_memory()  # after loading: under ZeRO stage 3 that leaves glibc with a much larger threshold
    return Generator(loaded, {task.name: task for task in tasks}, config, seed).to(runtime.device)


def save_generator(generator: Generator, backbone: BackboneConfig, folder: Path) -> None:
    """Write all parts into `folder`; the caller marks it as done afterwards. Raises UserError where it cannot."""
    tasks = {name: TaskDescription.of(task) for name, task in generator.tasks.items()}
    description = Description(backbone, generator.config, tasks)
    _save_adapter(generator, folder / "adapter")
    store.write_tensors(folder / TENSORS_FILE, _tensors_of(generator))
    description.write(folder)
    store.write_text(folder / "README.md", generator_card(description))
    store.write_text(folder / "adapter" / "README.md", adapter_card(description))  # peft leaves a template to fill in


def _save_adapter(generator: Generator, folder: Path) -> None:
    """What peft writes, file by file as everything else: a killed process leaves no half of it behind."""
    with store.writing(folder):
        store.make_folder(folder.parent)
    with store.writing(folder), TemporaryDirectory(prefix=f".adapter{store.TEMPORARY}", dir=folder.parent) as temporary:
        lora = generator.backbone.model.peft_config["default"]
        lora.target_modules = sorted(lora.target_modules)  # of a set; its order would differ from run to run
        # peft would ask the hub whether the vocabulary has changed, which it never does here
        generator.backbone.model.save_pretrained(temporary, save_embedding_layers=False)
        for path in sorted(Path(temporary).iterdir()):
            store.write_bytes(folder / path.name, path.read_bytes())


def load_generator(
    folder: Path,
    runtime: Runtime,
    gradient_checkpointing: bool = False,
    targets: Sequence[TargetConfig] | None = None,
) -> Generator:
    """A saved generator, ready to generate or to be tuned on. Raises UserError for a broken or foreign folder.

    `targets` are those that it may have beside the built-in ones; None: any, since the user trusts the folder.
    """
    tensors = _read(folder / TENSORS_FILE)
    adapter = _read(folder / "adapter" / "adapter_model.safetensors")
    description = read_description(folder)
    if targets is not None:
        _require_targets(description, targets, folder)
    backbone = replace(description.backbone, gradient_checkpointing=gradient_checkpointing)
    try:
        tasks = [_task(name, task, tensors, description.generator) for name, task in description.tasks.items()]
    except KeyError as error:
        raise UserError(f"{folder} does not fit its own description: it lacks {error}; {ANEW}") from error
    generator = build_generator(backbone, description.generator, tasks, 0, runtime)
    _load_values(generator, tensors, adapter, folder)
    return generator


def _require_targets(description: Description, targets: Sequence[TargetConfig], folder: Path) -> None:
    """Raises UserError where the folder names another function than those of these targets: it would be called."""
    allowed = {target.build for target in targets}
    for task in description.tasks.values():
        if "." in task.target.build and task.target.build not in allowed:
            raise UserError(f"{folder} names the function {task.target.build}, which is no target of this step; {ANEW}")


def _tensors_of(generator: Generator) -> dict[str, Tensor]:
    """What is trained but the LoRA, and of every task its scale and its preparation."""
    tensors = {name: value.detach() for name, value in generator.trainables.items() if not name.startswith("backbone.")}
    for name, task in generator.tasks.items():
        tensors |= {f"{name}/scale.mean": task.scale.mean, f"{name}/scale.std": task.scale.std}
        for item in fields(task.preparation):
            value = getattr(task.preparation, item.name)
            tensors[f"{name}/preparation.{item.name}"] = value.clone()  # tasks may share it
        if task.known is not None:
            tensors |= {f"{name}/known.{item.name}": getattr(task.known, item.name) for item in fields(KnownRows)}
    return tensors


def _task(name: str, description: TaskDescription, tensors: dict[str, Tensor], config: GeneratorConfig) -> Task:
    """The task with its tensors, which are taken out of `tensors`. Raises KeyError where one is missing."""
    d = description
    require_same_code(d.target, d.source)
    layout = ParameterLayout.of(build_network(d.target, d.shape))
    scale = Scale(layout, tensors.pop(f"{name}/scale.mean"), tensors.pop(f"{name}/scale.std"), config.soft_clip)
    kind = Normalisation if isinstance(d.shape, ImageShape) else TokenEmbedding
    preparation = kind(**{item.name: tensors.pop(f"{name}/preparation.{item.name}") for item in fields(kind)})
    known = None
    if d.dataset.ways is not None:
        known = KnownRows(**{item.name: tensors.pop(f"{name}/known.{item.name}") for item in fields(KnownRows)})
    return Task(d.dataset, d.target, d.class_names, d.shape, preparation, d.fingerprint, scale, d.source_labels, known)


def _load_values(generator: Generator, tensors: dict[str, Tensor], adapter: dict[str, Tensor], folder: Path) -> None:
    """Copy what was saved into the generator. peft leaves the adapter's name ('default') out of the file's keys."""
    saved = tensors | {
        "backbone.model." + name.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default."): value
        for name, value in adapter.items()
    }
    trainables = generator.trainables
    shapes, expected = ({name: value.shape for name, value in named.items()} for named in (saved, trainables))
    differing = sorted(name for name in shapes | expected if shapes.get(name) != expected.get(name))
    if differing:
        raise UserError(f"{folder} does not fit its own description: it differs in {', '.join(differing[:3])}; {ANEW}")
    with torch.no_grad():
        for name, value in trainables.items():
            value.copy_(saved[name])


def _read(path: Path) -> dict[str, Tensor]:
    store.require_as_written(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} is missing or broken ({error}); give the folder of a finished inject or tune step"
        ) from error
