"""What the undone steps of experiments read from outside.

in:  steps
out: their sources, each once: published images, datasets and models of the Hub, models inside packages

Only data and models are looked at that a step itself reads: networks for texts are trained on what `embed` has left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from neurogen.config import DatasetConfig, ModelConfig
from neurogen.data import hub_dataset
from neurogen.data.published_files import PUBLISHED
from neurogen.downloads.hub import HubSource, Part
from neurogen.downloads.models import description_of, repository_of, shipped_in, whole_model
from neurogen.downloads.repository import Repository
from neurogen.downloads.source import Source
from neurogen.study.pipeline import Aggregate, Evaluate, Inject, Tune, tasks_read
from neurogen.study.step import Step
from neurogen.study.task_spec import Embed


def sources_of(steps: Iterable[Step]) -> list[Source]:
    """What those of these steps read that are not done."""
    undone = [step for step in steps if not step.is_done]
    sources: dict[str, Source] = {}
    for step in undone:
        for source in _sources_of_step(step):
            sources.setdefault(f"{source.name} in {source.place}", source)  # of a model the whole comes first
    return list(sources.values())


def _sources_of_step(step: Step) -> Iterator[Source]:
    for task in tasks_read(step):
        if task.embed is None:
            yield from dataset_sources(task.dataset)
    match step:
        case Embed():
            yield from dataset_sources(step.dataset)
            yield from model_sources(step.model)
        case Inject() | Tune():
            yield from model_sources(step.backbone)
        case Evaluate():
            yield from model_sources(step.tune.backbone)
        case Aggregate():  # it shows texts
            for embed in (evaluation.task.embed for evaluation in step.evaluations):
                if embed is not None:
                    yield from model_sources(embed.model, description_of)


def dataset_sources(config: DatasetConfig) -> Iterator[Source]:
    """Where a dataset comes from, if it is from outside."""
    for part in config.members:
        if part.load in PUBLISHED:
            from neurogen.data.published import PublishedSource

            yield PublishedSource(part)
    repository = hub_dataset.repository_of(config)
    if repository is not None:
        source = HubSource(hub_dataset.part_of(config, repository))
        if source.is_here() or not hub_dataset.is_prepared(repository):
            yield source


def model_sources(
    config: ModelConfig, part_of: Callable[[ModelConfig, Repository], Part] = whole_model
) -> Iterator[Source]:
    """Where a language model comes from, if it is from outside, with that part of it that is read."""
    repository = repository_of(config)
    if repository is not None:
        yield HubSource(part_of(config, repository))
    package = shipped_in(config)
    if package is not None and config.random_seed is None:
        from neurogen.generator.packaged import PackagedModel

        yield PackagedModel(package, str(config.model))
