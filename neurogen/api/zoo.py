"""A trained zoo from its folder: the reference networks w_i ~ W (paper 3.3.1), their mean, and their parameters.

zoo = neurogen.load_zoo("runs/reference/FOLDER")
zoo[0](images), zoo.mean()(images)      # logits [samples, classes]
zoo.flat                                # [networks, parameters]
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from neurogen import store
from neurogen.api.classifier import Classifier
from neurogen.api.samples import SampleReader
from neurogen.api.source import require_same_source
from neurogen.config import DatasetConfig, ModelConfig, TargetConfig
from neurogen.data.arrays import relocated
from neurogen.data.dataset import Dataset, load_images, require_same
from neurogen.data.identity import require_same_code
from neurogen.data.tokenised import load_texts
from neurogen.errors import UserError
from neurogen.experiment import typed
from neurogen.generator.card import hub_name
from neurogen.generator.pretrained import load_tokenizer
from neurogen.study.pipeline import Zoo
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout
from neurogen.targets.zoo import load_network
from neurogen.targets.zoo import load_zoo as aligned_zoo


def load_zoo(folder: str | Path) -> LoadedZoo:
    """The networks in the folder of a finished reference (or classical) step; its dataset is read again.

    Raises UserError for a folder that is no such step, broken files, and data that has changed since.
    """
    folder = Path(folder)
    if not store.is_done(folder):
        raise UserError(f"{folder} is no finished step; give root/reference/FOLDER")
    about = store.read_json(folder / "config.json")
    if about["kind"] not in ("reference", "classical"):
        raise UserError(f"{folder} is a step {about['kind']}; give root/reference/FOLDER")
    config, target = typed(DatasetConfig, about["task"]["dataset"]), typed(TargetConfig, about["task"]["target"])
    require_same_source(target)
    require_same_code(target, about["task"]["target_identity"])
    config = relocated(config, folder)
    dataset, model = _data(config, about["task"]["embed"], folder.parent.parent)
    require_same(dataset, store.read_json(folder / "metrics.json")["fingerprint"], folder)
    layout = ParameterLayout.of(build_network(target, dataset.shape))
    flat = torch.stack([load_network(path, layout) for path in sorted(folder.glob("network-*.safetensors"))])
    return LoadedZoo(flat, target, layout, reader_of(config, dataset, model))


def zoo_of_run(zoo: Zoo) -> LoadedZoo:
    """All chunks of a run's zoo, aligned as the run asked for. Raises UserError as `load_zoo` does."""
    require_same_source(zoo.task.target)
    dataset, embed = zoo.task.load(), zoo.task.embed
    network = build_network(zoo.task.target, dataset.shape)
    flat = aligned_zoo(zoo, dataset, network)
    reader = reader_of(zoo.task.dataset, dataset, embed.model if embed is not None else None)
    return LoadedZoo(flat, zoo.task.target, ParameterLayout.of(network), reader)


class LoadedZoo:
    """len(zoo), zoo[i] and iteration give its networks; `flat` holds their parameters, a row for each."""

    def __init__(
        self,
        flat: Float[Tensor, "networks params"],
        target: TargetConfig,
        layout: ParameterLayout,
        reader: SampleReader,
    ) -> None:
        self.flat, self.target, self.layout, self.reader = flat, target, layout, reader

    def __len__(self) -> int:
        return len(self.flat)

    def __getitem__(self, index: int) -> Classifier:
        try:
            return self.network(self.flat[operator.index(index)])
        except TypeError as error:
            raise UserError(f"zoo[{index!r}] is no number of a network; list(zoo)[…] takes slices") from error

    def __iter__(self) -> Iterator[Classifier]:
        return (self[index] for index in range(len(self)))

    def mean(self) -> Classifier:
        """The network whose parameters are the average over the zoo: what stage 1 can reach."""
        return self.network(self.flat.mean(0))

    def network(self, flat: Float[Tensor, " params"]) -> Classifier:
        """A network of this target with any parameters, in the order of `flat`."""
        network = build_network(self.target, self.reader.shape)
        return Classifier(network, self.layout.tensors(flat), self.reader)

    def __repr__(self) -> str:
        count, size = self.flat.shape
        return f"LoadedZoo({self.reader.dataset.title}, {self.target.title}: {count} networks, {size:,} parameters)"


def reader_of(config: DatasetConfig, dataset: Dataset, model: ModelConfig | None) -> SampleReader:
    """What makes samples for the networks of a zoo from a user's arrays or texts; texts have the model's tokens."""
    tokenizer, name = (load_tokenizer(model), hub_name(model)) if model is not None else (None, None)
    about = (dataset.shape, dataset.class_names, dataset.preparation)
    return SampleReader(config, *about, tokenizer, name, dataset.source_labels)


def _data(config: DatasetConfig, embed: str | None, root: Path) -> tuple[Dataset, ModelConfig | None]:
    """(the dataset, the language model of its texts); `embed` is KIND-KEY of the step that tokenised them."""
    if embed is None:
        return load_images(config), None
    key = embed.rpartition("-")[2]
    folders = list(root.glob(f"embed/*-{key}"))
    if len(folders) != 1:
        raise UserError(f"{root}/embed/*-{key} is missing: it holds the texts of this zoo; run the experiment again")
    model = typed(ModelConfig, store.read_json(folders[0] / "config.json")["model"])
    return load_texts(config, folders[0]), model
