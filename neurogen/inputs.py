"""What the steps of a study read from outside: data, models, code. A site check reads it on the nodes.

in:  the last step of a study
out: Inputs, which are called: they read everything and no more than they must
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from neurogen.config import BackboneConfig, DatasetConfig
from neurogen.errors import UserError, one_line
from neurogen.experiment import BUILT_INS
from neurogen.study.execution import in_order
from neurogen.study.pipeline import Aggregate, Evaluate, Inject, Tune, tasks_read
from neurogen.study.step import Step
from neurogen.study.task_spec import Embed


@dataclass(frozen=True)
class Inputs:
    """Of the steps that are not done. Equal inputs have an equal repr."""

    data: tuple[tuple[DatasetConfig, str], ...]  # each with its identity, as planned
    backbones: tuple[BackboneConfig, ...]
    modules: tuple[str, ...]  # that do the steps' work

    @staticmethod
    def of(last: Aggregate) -> Inputs:
        """Those of a study."""
        undone = [step for step in in_order(last) if not step.is_done]
        data = {repr(pair): pair for step in undone for pair in _data_of(step)}
        backbones = {repr(step.backbone): step.backbone for step in undone if isinstance(step, (Inject, Tune))}
        backbones |= {repr(s.tune.backbone): s.tune.backbone for s in undone if isinstance(s, Evaluate)}
        modules = sorted({step.runs.partition(":")[0] for step in undone})
        return Inputs(tuple(data.values()), tuple(backbones.values()), tuple(modules))

    def __call__(self) -> None:
        """Read them. Raises UserError for what is missing, broken or other than planned."""
        from neurogen.generator.usable import require_usable

        for module in self.modules:
            try:
                importlib.import_module(module)
            except (ImportError, OSError) as error:  # the latter where a shared library is missing
                raise UserError(f"{module} cannot be imported ({one_line(error)})") from error
        for config, planned in self.data:
            read(config, planned)
        for backbone in self.backbones:
            require_usable(backbone)
            _require_kept_weights(backbone)


def _require_kept_weights(config: BackboneConfig) -> None:
    """Raises UserError where nothing is downloaded and the hub's cache lacks weights, or has them broken."""
    from huggingface_hub import constants, snapshot_download

    from neurogen.generator.packaged import local_folder
    from neurogen.generator.usable import require_weights

    if constants.HF_HUB_OFFLINE and config.random_seed is None and local_folder(config) is None:
        require_weights(Path(snapshot_download(config.model, local_files_only=True)))


def read(config: DatasetConfig, planned: str) -> None:
    """Read a dataset as steps do; of pictures the first, of a user's own loader the files alone.

    Raises UserError as the loader does, and where the data is not what was planned.
    """
    from neurogen.data.folders import list_pictures
    from neurogen.data.identity import identity, require_same_identity
    from neurogen.data.pictures import read_all
    from neurogen.experiment import named_function

    if config.load == "image_folder":
        read_all(list_pictures(config.path).files()[:1], 3, (config.resize or 1, config.resize or 1))
    elif config.load in BUILT_INS["dataset.load"]:
        named_function("dataset.load", config.load)(config)
    require_same_identity(f"dataset {config.name}", planned, identity(config))


def _data_of(step: Step) -> list[tuple[DatasetConfig, str]]:
    """What a step reads itself; of texts that are embedded, nothing is read any more."""
    if isinstance(step, Embed):
        return [(step.dataset, step.data_identity)]
    if isinstance(step, Aggregate):  # its plots show samples, and it waits for steps that have read them
        return []
    return [(task.dataset, task.data_identity) for task in tasks_read(step) if task.embed is None]
