"""A task as the config names it, and the step `embed`, which prepares its texts.

in:  configs, and the identities of the data, the code and the language model that they name
out: the data as networks read it, if all of that is still what it was when the task was planned
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurogen.config import DatasetConfig, ModelConfig, StepKind, TargetConfig, task_name
from neurogen.study.step import Step

if TYPE_CHECKING:
    from neurogen.data.dataset import Dataset
    from neurogen.downloads.repository import Repository


@dataclass(frozen=True)
class TaskSpec:
    """A task as the config names it: the data and the target network, with the identity of their files and code."""

    dataset: DatasetConfig
    data_identity: str
    target: TargetConfig
    target_identity: str | None  # None for a built-in
    embed: Embed | None  # where the data is text

    @property
    def name(self) -> str:
        """DATASET-TARGET."""
        return task_name(self.dataset, self.target)

    def load(self) -> Dataset:
        """The data as networks read it.

        Raises UserError as the dataset's loader does, and where files or code have changed since the task was planned.
        """
        from neurogen.data.dataset import load_images
        from neurogen.data.tokenised import load_texts

        dataset = load_images(self.dataset) if self.embed is None else load_texts(self.dataset, self.embed.folder)
        self.require_unchanged()  # after reading: files may change at any time until then
        return dataset

    def require_unchanged(self) -> None:
        """Raises UserError where what this task reads is no longer what it was when it was planned."""
        from neurogen.data.identity import identity, identity_of_target, require_same_identity

        if self.embed is None:
            require_same_identity(f"dataset {self.dataset.name}", self.data_identity, identity(self.dataset))
        require_same_identity(f"target {self.target.name}", self.target_identity, identity_of_target(self.target))

    def load_seen(self) -> Dataset:
        """The data without the classes that a generator and its zoo must not see."""
        return self.load().without(self.dataset.unseen)


@dataclass(frozen=True)
class Embed(Step):
    """Texts as all targets read them: tokens of the backbone's tokenizer, its embedding reduced (paper 4.1)."""

    kind, version, runs = StepKind.embed, 1, "neurogen.stages.embed:embed"

    dataset: DatasetConfig
    data_identity: str
    model: ModelConfig
    model_identity: str | None  # None where the name tells which model it is

    @property
    def label(self) -> str:
        """The dataset."""
        return self.dataset.name

    @property
    def repositories(self) -> tuple[Repository, ...]:
        """Those of the texts and of the model."""
        from neurogen.data import hub_dataset
        from neurogen.downloads import models

        both = (hub_dataset.repository_of(self.dataset), models.repository_of(self.model))
        return tuple(repository for repository in both if repository is not None)

    def require_unchanged(self) -> None:
        """As `TaskSpec.require_unchanged`, of the raw texts and the model."""
        from neurogen.data.identity import identity, require_same_identity

        require_same_identity(f"dataset {self.dataset.name}", self.data_identity, identity(self.dataset))
        require_same_model(self.model, self.model_identity)


def require_same_model(model: ModelConfig, planned: str | None) -> None:
    """Raises UserError where the files of a language model have changed since its identity was computed."""
    from neurogen.data.identity import identity_of_model, require_same_identity

    require_same_identity(f"model {model.model}", planned, identity_of_model(model))
