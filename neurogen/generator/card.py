"""Model cards: the README.md of a generator's folder and of its adapter, as the Hugging Face Hub reads them.

in:  the description of a generator; where they are known, the accuracies of networks that it generated
out: Markdown that opens with the Hub's metadata

A card says nothing that is not known, and names no folder of the machine that it was written on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from neurogen.config import BackboneConfig, ModelConfig
from neurogen.data.preparation import ImageShape
from neurogen.errors import some_of
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout

if TYPE_CHECKING:
    from neurogen.generator.folder import Description, TaskDescription

PAPER = "https://arxiv.org/abs/2505.12470"
TAGS = ["neurogen", "hypernetwork", "parameter-generation"]
HERE = "."  # how a folder is loaded from within itself


@dataclass(frozen=True)
class Spread:
    """Test accuracy in percent over `n` networks; the deviation of a single one is None."""

    mean: float
    std: float | None
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f}" + ("" if self.std is None else f" ± {self.std:.2f}") + f" (n = {self.n})"


@dataclass(frozen=True)
class Figures:
    """What was measured of one task."""

    generated: Spread
    classical: Spread  # the same network, trained by gradient descent
    num_test: int


def generator_card(description: Description, figures: Mapping[str, Figures] | None = None, source: str = HERE) -> str:
    """The card of a generator, with `figures` by task. `source` is what `neurogen.load` takes."""
    figures = figures or {}
    parts = [
        f"# {title_of(description)}",
        f"One forward pass of {_backbone(description.backbone)} with LoRA generates all parameters of a small network. "
        f"It reads an instruction and {description.generator.context_samples} labelled samples. The method is "
        f"[NeuroGen]({PAPER}).",
        "## What it generates",
        _table(
            ("network", "parameters", "data", "classes", "reads"), [_row(task) for task in description.tasks.values()]
        ),
        *(["## How good the networks are", *_accuracies(description, figures)] if figures else []),
        "## How to load it",
        _code(
            "import neurogen",
            "",
            f'generator = neurogen.load("{source}")' + ("  # in this folder" if source == HERE else ""),
            f"network = generator.generate({_given(description)})  # a torch.nn.Module",
            f"network({_samples(description)})  # logits [samples, classes]",
        ),
        f"`generator.generate({_given(description)}, num_networks=8)` gives eight networks from eight contexts, and "
        '`network.save("network.safetensors")` writes the parameters of one.'
        if not _lists_classes(description)
        else '`network.prompt.readings` says what each name was taken for, and `network.save("network.pt2")` writes a '
        "program that needs torch alone.",
    ]
    metadata = _metadata("neurogen", description, TAGS, _results(description, figures))
    return "\n\n".join([metadata, *parts]) + "\n"


def _lists_classes(description: Description) -> bool:
    """Whether its networks are for lists of classes."""
    return any(task.dataset.ways is not None for task in description.tasks.values())


def _given(description: Description) -> str:
    """What `generate` is given, in Python."""
    return 'classes="NAME, NAME"' if _lists_classes(description) else f"{_samples(description)}, labels"


def adapter_card(description: Description) -> str:
    """The card of the adapter, which plain peft loads onto the backbone."""
    lora, name = description.backbone.lora, hub_name(description.backbone)
    parts = [
        f"# LoRA of a generator: {_subject(description)}",
        f"Rank {lora.rank}, alpha {lora.alpha}, on {', '.join(lora.target_modules)} of "
        f"{_backbone(description.backbone)}. It is one part of a generator. Parameter tokens and a projection, in the "
        "folder above this one, turn the hidden states into the parameters of small networks.",
        "It is an adapter of transformers' class `AutoModel`, the language model without its output layer. On an "
        "`AutoModelForCausalLM` peft finds no place for its tensors: it warns of missing adapter keys, and the adapter "
        "does nothing.",
    ]
    if description.backbone.random_seed is None:
        parts += [
            "peft loads it without NeuroGen:",
            _code(
                "from peft import PeftModel",
                "from transformers import AutoModel",
                "",
                f'backbone = AutoModel.from_pretrained("{name}")'
                if name
                else 'backbone = AutoModel.from_pretrained("FOLDER")  # of the language model',
                f'model = PeftModel.from_pretrained(backbone, "{HERE}")  # in this folder',
            ),
        ]
    return "\n\n".join([_metadata("peft", description, ["lora", *TAGS], {}), *parts]) + "\n"


def title_of(description: Description) -> str:
    """What the generator generates, as a heading."""
    return f"Generator of {_subject(description)}"


def hub_name(model: ModelConfig) -> str | None:
    """OWNER/NAME of a language model; None for random weights and for a model that was read from a folder."""
    name = model.model
    if model.random_seed is not None or name is None or name.count("/") != 1 or Path(name).exists():
        return None
    return name


def _metadata(library: str, description: Description, tags: list[str], more: dict[str, Any]) -> str:
    from huggingface_hub import ModelCardData

    base = hub_name(description.backbone)
    return f"---\n{ModelCardData(library_name=library, base_model=base, tags=tags, **more).to_yaml()}\n---"


def _results(description: Description, figures: Mapping[str, Figures]) -> dict[str, Any]:
    """The accuracies as the Hub's model index has them."""
    from huggingface_hub import EvalResult

    results = [
        EvalResult(
            task_type=f"{task.dataset.modality}-classification",
            dataset_type=task.dataset.name,
            dataset_name=task.dataset.title,
            dataset_split="test",
            metric_type="accuracy",
            metric_name="test accuracy of generated networks, in percent",
            metric_value=figures[name].generated.mean,
        )
        for name, task in description.tasks.items()
        if name in figures
    ]
    return {"model_name": title_of(description), "eval_results": results} if results else {}


def _subject(description: Description) -> str:
    networks, data = (
        " and ".join(dict.fromkeys(getattr(task, part).title for task in description.tasks.values()))
        for part in ("target", "dataset")
    )
    return f"{networks} networks for {data}"


def _backbone(backbone: BackboneConfig) -> str:
    name = hub_name(backbone)
    if name is not None:
        return f"[{name}](https://huggingface.co/{name})"
    if backbone.random_seed is not None:
        return f"`{backbone.name}`, a model with random weights,"
    return f"a language model that is not on the Hub (`{backbone.name}`)"


def _row(task: TaskDescription) -> tuple[str, ...]:
    layout = ParameterLayout.of(build_network(task.target, task.shape))
    if isinstance(task.shape, ImageShape):
        colour = "grey" if task.shape.channels == 1 else f"{task.shape.channels} channels"
        samples = f"images of {task.shape.height}×{task.shape.width} pixels, {colour}"
    else:
        assert task.dataset.text is not None
        samples = f"texts of up to {task.dataset.text.max_tokens} tokens"
    return task.target.title, f"{layout.num_parameters:,}", task.dataset.title, some_of(task.class_names), samples


def _accuracies(description: Description, figures: Mapping[str, Figures]) -> list[str]:
    rows = []
    for name, measured in figures.items():
        task = description.tasks[name]
        accuracies = (str(measured.generated), str(measured.classical), f"{measured.num_test:,}")
        rows.append((task.target.title, task.dataset.title, *accuracies))
    return [
        _table(("network", "data", "generated", "trained by gradient descent", "test samples"), rows),
        "Test accuracy in percent: mean ± standard deviation over n networks. Generated networks come from different "
        "contexts, trained ones from different seeds.",
    ]


def _samples(description: Description) -> str:
    kinds = {task.dataset.modality for task in description.tasks.values()}
    return {"image": "images", "text": "texts"}[kinds.pop()] if len(kinds) == 1 else "samples"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    text: str = tabulate(lines, header, tablefmt="github", disable_numparse=True)
    return text


def _code(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])
