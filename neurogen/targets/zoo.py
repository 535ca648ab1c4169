"""The zoo W (paper 3.3.1) on disk: one safetensors file per reference network, read back as rows of flat parameters."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from neurogen import store
from neurogen.config import Alignment
from neurogen.data.dataset import Dataset, require_same
from neurogen.errors import UserError
from neurogen.study.pipeline import Zoo
from neurogen.targets import rebasin
from neurogen.targets.parameters import ParameterLayout


def network_path(folder: Path, index: int) -> Path:
    """The file of one network in the folder of its step."""
    return folder / f"network-{index:04d}.safetensors"


def load_network(path: Path, layout: ParameterLayout) -> Float[Tensor, " params"]:
    """The flat parameters in a file. Raises UserError for a missing, broken or foreign one."""
    store.require_as_written(path)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} is missing or broken ({error}); delete the folder {path.parent} and run again to make it anew"
        ) from error
    try:
        return layout.flatten(tensors)
    except UserError as error:
        raise UserError(f"{path}: {error}; delete the folder {path.parent} and run again to make it anew") from error


def load_zoo(zoo: Zoo, dataset: Dataset, network: nn.Module) -> Float[Tensor, "networks params"]:
    """All reference networks, aligned as asked. Raises UserError when they were trained on other data."""
    layout, rows = ParameterLayout.of(network), []
    for step in zoo.references:
        require_same(dataset, step.metrics()["fingerprint"], step.folder)
        indices = range(step.first, step.first + step.num_networks)
        rows += [load_network(network_path(step.folder, index), layout) for index in indices]
    networks = torch.stack(rows)
    if zoo.align == Alignment.rebasin:
        return rebasin.align(network, networks, layout, seed=zoo.references[0].seed)
    return networks
