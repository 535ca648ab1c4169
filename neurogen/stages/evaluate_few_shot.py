"""Evaluation of classes that no training has seen: a few samples show them, alone and beside classes that are named.

in:  the lists of named classes with their generated networks; other data, whose classes are shown
out: the accuracy on all test samples of novel classes, by the number of samples that were shown

The opponents have the same samples: rows that are made in the same way on the zoo's own network, and a network that is
trained on these samples alone. What all training samples would give says how much a few of them leave to be gained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from neurogen.config import TargetConfig
from neurogen.data.dataset import Dataset, Split, require_alike
from neurogen.data.distortion import distorted
from neurogen.errors import Interrupted, UserError
from neurogen.generator.few_shot import support_rows
from neurogen.generator.task import Task
from neurogen.progress import Progress
from neurogen.rng import rng_of, seed_of
from neurogen.stages.evaluated import Inputs
from neurogen.stages.listed import Listed
from neurogen.study.pipeline import Evaluate
from neurogen.study.results import FewShotResult
from neurogen.targets.fitting import in_training_mode, initialised
from neurogen.targets.prediction import EVALUATION_BATCH, accuracy_of
from neurogen.targets.prototypes import features, output_rows
from neurogen.training.runtime import Runtime

MOST_CLASSES = 10  # that a context shows
UPDATES, LR = 400, 2e-3  # of networks that are trained on the shown samples alone; chosen on characters

Features = Float[Tensor, "samples features"]
Labels = Int64[Tensor, " samples"]


@dataclass(frozen=True)
class Body:
    """All but the output layer of a network, and what it reads out of the test samples."""

    network: nn.Module
    tensors: dict[str, Tensor]
    named: Float[Tensor, "named features"]  # of the test samples of the experiment's own data
    novel: Float[Tensor, "novel features"]  # of those of novel classes

    @staticmethod
    def of(network: nn.Module, tensors: dict[str, Tensor], tests: tuple[Split, Split]) -> Body:
        """Reads all test samples."""
        named, novel = (read_all(network, tensors, split) for split in tests)
        return Body(network, tensors, named, novel)


@dataclass(frozen=True)
class SupportSet:
    """Classes with the samples that show them."""

    classes: Int64[Tensor, " ways"]
    samples: Split  # labelled by the places of the classes

    @staticmethod
    def draw(novel: Dataset, shots: int, rng: torch.Generator) -> SupportSet:
        """So many training samples of each of at most MOST_CLASSES classes. Raises UserError where there are fewer."""
        labels = novel.train.labels
        classes = torch.randperm(len(novel.class_names), generator=rng)[:MOST_CLASSES]
        chosen = []
        for index in classes.tolist():
            every = (labels == index).nonzero()[:, 0]
            if len(every) < shots:
                raise UserError(
                    f"few_shot.test_shots={shots} is more than the {len(every)} training samples of "
                    f"{novel.class_names[index]} in {novel.name}; show fewer"
                )
            chosen.append(every[torch.randperm(len(every), generator=rng)[:shots].to(every.device)])
        index = torch.cat(chosen)
        places = torch.arange(len(classes), device=labels.device).repeat_interleave(shots)
        return SupportSet(classes, replace(novel.train.subset(index), labels=places))


def evaluate_few_shot(
    step: Evaluate,
    inputs: Inputs,
    task: Task,
    lists: Sequence[Listed],
    networks: Sequence[Float[Tensor, " _"]],
    runtime: Runtime,
) -> list[FewShotResult]:
    """A result for every number of samples; none where the experiment shows no classes. `networks` were generated for
    the lists, and differ in their rows alone.

    Raises UserError for data that cannot be shown, Interrupted when the stop flag is set.
    """
    if step.few_shot is None:
        return []
    novel = _readable(_seen(step, inputs.dataset), step.few_shot.task.load()).to(runtime.device)
    zoo = inputs.layout.tensors(inputs.zoo.mean(0).to(runtime.device))
    generated = [
        inputs.layout.with_rows(len(episode.classes)).tensors(flat.to(runtime.device))
        for episode, flat in zip(lists, networks, strict=True)
    ]
    tests = inputs.test.split.to(runtime.device), novel.test
    of_generated, of_zoo = (Body.of(inputs.network, tensors, tests) for tensors in (generated[0], zoo))
    train = read_all(inputs.network, zoo, novel.train)
    every_row, _ = support_rows(task, train, novel.train.labels, len(novel.class_names))
    setting = Setting(step, task, novel, tests, of_generated, of_zoo, every_row)
    results = []
    for shots in step.few_shot.shots:
        measured = []
        with Progress(f"shown by {shots}", len(lists), unit="contexts") as progress:
            for number, (named, tensors) in enumerate(zip(lists, generated, strict=True)):
                if runtime.stop.is_set():
                    raise Interrupted
                measured.append(_measure(setting, shots, number, named, tensors))
                progress.advance()
        results.append(_joined(shots, measured))
    return results


@dataclass(frozen=True)
class Setting:
    """What is the same for all contexts."""

    step: Evaluate
    task: Task
    novel: Dataset
    tests: tuple[Split, Split]  # samples of named and of novel classes
    generated: Body
    zoo: Body
    every_row: Float[Tensor, "classes features"]  # of each novel class, made of all its training samples


class Accuracies(NamedTuple):
    """Of all contestants in one context."""

    generated: float
    zoo: float
    many: float
    trained: float
    mixed_named: float
    mixed_novel: float


def _measure(setting: Setting, shots: int, number: int, named: Listed, tensors: dict[str, Tensor]) -> Accuracies:
    """The accuracies in the context of this number; `tensors` were generated for the list `named`."""
    s = setting
    context = SupportSet.draw(s.novel, shots, rng_of(s.step.seed, "shown", shots, number))
    rows = output_rows(s.generated.network, tensors)
    of_named, of_novel = _accuracies_mixed(s.task, s.generated, named, rows, context, s.tests)
    return Accuracies(
        generated=_accuracy(s.task, s.generated, context, s.novel.test),
        zoo=_accuracy(s.task, s.zoo, context, s.novel.test),
        many=_accuracy_of_rows(s.every_row[context.classes.to(s.every_row.device)], s.zoo, context, s.novel.test),
        trained=_accuracy_trained(
            s.step.task.target, s.novel, context, seed_of(s.step.seed, "trained on few", shots, number)
        ),
        mixed_named=of_named,
        mixed_novel=of_novel,
    )


def _joined(shots: int, measured: Sequence[Accuracies]) -> FewShotResult:
    """The contexts with so many samples of each class as one result."""
    generated, zoo, many, trained, mixed_named, mixed_novel = map(list, zip(*measured, strict=True))
    return FewShotResult(shots, fmean(many), generated, zoo, trained, mixed_named, mixed_novel)


def _seen(step: Evaluate, dataset: Dataset) -> list[Dataset]:
    """What the networks were trained on: the data with names, and those of the zoo's episodes."""
    episodes = [reference.few_shot.task for reference in step.zoo.references[:1] if reference.few_shot is not None]
    return [dataset, *(task.load() for task in episodes)]


def _readable(seen: Sequence[Dataset], novel: Dataset) -> Dataset:
    """The data of the novel classes, prepared as networks for the first of the data that they have seen read it.

    Raises UserError for images of another shape, and for classes that the networks were trained on.
    """
    dataset = seen[0]
    require_alike(dataset, novel)
    for known in seen:
        both = sorted(set(known.class_names) & set(novel.class_names))
        if both:
            raise UserError(
                f"few_shot.test shows classes that training has not seen, and {', '.join(both[:3])} of {novel.name} "
                f"are in {known.name} too; take other data"
            )
    train, test = (replace(split, preparation=dataset.preparation) for split in (novel.train, novel.test))
    return replace(novel, train=train, test=test)


@torch.no_grad()
def read_all(network: nn.Module, tensors: dict[str, Tensor], split: Split) -> Features:
    """The features of all samples of a split. Everything is on the device of the network, and stays there."""
    parts = torch.arange(len(split), device=split.labels.device).split(EVALUATION_BATCH)
    return torch.cat([features(network, tensors, split.inputs(part)) for part in parts])


def _accuracy(task: Task, body: Body, context: SupportSet, test: Split) -> float:
    """On all test samples of the novel classes."""
    read = read_all(body.network, body.tensors, context.samples)
    rows, _ = support_rows(task, read, context.samples.labels, len(context.classes))
    return _accuracy_of_rows(rows, body, context, test)


def _accuracy_of_rows(rows: Float[Tensor, "ways features"], body: Body, context: SupportSet, test: Split) -> float:
    """The same where the rows of the shown classes are given."""
    kept, labels = _of_classes(test, context.classes)
    return accuracy_of((body.novel[kept] @ rows.T).argmax(1), labels)


def _accuracies_mixed(
    task: Task,
    body: Body,
    named: Listed,
    rows: tuple[Float[Tensor, "ways features"], Float[Tensor, " ways"]],
    context: SupportSet,
    tests: tuple[Split, Split],
) -> tuple[float, float]:
    """Of the samples of named and of shown classes, in one list of half of the named ones and as many shown ones.

    `rows` are those of the named ones with their biases; `tests` have the named and the shown classes.
    """
    count = min(len(named.classes) // 2, len(context.classes))
    read = read_all(body.network, body.tensors, context.samples)
    novel, bias = support_rows(task, read, context.samples.labels, len(context.classes))
    weight = torch.cat([rows[0][:count], novel[:count]])
    biases = torch.cat([rows[1][:count], rows[1].new_full((count,), bias)])
    of_named = _of_classes(tests[0], named.classes[:count])
    of_novel = _of_classes(tests[1], context.classes[:count])
    right_named = (body.named[of_named[0]] @ weight.T + biases).argmax(1)
    right_novel = (body.novel[of_novel[0]] @ weight.T + biases).argmax(1)
    return accuracy_of(right_named, of_named[1]), accuracy_of(right_novel, count + of_novel[1])


def _of_classes(split: Split, classes: Int64[Tensor, " ways"]) -> tuple[Int64[Tensor, " kept"], Labels]:
    """(the samples of these classes, their labels as places among these)."""
    labels, classes = split.labels, classes.to(split.labels.device)
    places = labels.new_full((int(max(labels.max(), classes.max())) + 1,), -1)
    places[classes] = torch.arange(len(classes), device=labels.device)
    kept = (places[labels] >= 0).nonzero()[:, 0]
    return kept, places[labels[kept]]


def trained_on(target: TargetConfig, novel: Dataset, context: SupportSet, seed: int) -> nn.Module:
    """A network of this target that is trained on the shown samples alone, under changing hands."""
    names = tuple(novel.class_names[index] for index in context.classes.tolist())
    network, rng = initialised(target, replace(novel, class_names=names), seed), rng_of(seed)
    samples = context.samples
    network.to(samples.labels.device)
    assert isinstance(samples.samples, Tensor)
    pictures = samples.samples.float() / 255
    optimizer = torch.optim.AdamW(network.parameters(), LR)
    with in_training_mode([network], samples, seed):
        for _ in range(UPDATES):
            optimizer.zero_grad()
            drawn = samples.preparation((255 * distorted(pictures, rng)).round().byte())
            nn.functional.cross_entropy(network(drawn), samples.labels).backward()
            optimizer.step()
    return network


def _accuracy_trained(target: TargetConfig, novel: Dataset, context: SupportSet, seed: int) -> float:
    network = trained_on(target, novel, context, seed)
    kept, labels = _of_classes(novel.test, context.classes)
    test = novel.test.subset(kept)
    with torch.no_grad():
        logits = torch.cat([network(test.inputs(part)) for part in torch.arange(len(test)).split(EVALUATION_BATCH)])
    return accuracy_of(logits.argmax(1), labels)
