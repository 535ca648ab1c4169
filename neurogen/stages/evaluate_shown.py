"""Evaluation of classes that no training has seen: a few samples show them, alone and beside classes that are named.

in:  the lists of named classes with their generated networks; other data, whose classes are shown
out: the accuracy on all test samples of the shown classes, by the number of samples that were shown

The opponents have the same samples: rows that are made in the same way on the zoo's own network, and a network that is
trained on these samples alone. What all training samples would give says how much a few of them leave to be gained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from neurogen.data.dataset import Dataset, Split, require_alike
from neurogen.data.distortion import distorted
from neurogen.errors import Interrupted, UserError
from neurogen.generator.shown import shown_rows
from neurogen.generator.task import Task
from neurogen.progress import Progress
from neurogen.rng import rng_of, seed_of
from neurogen.stages.evaluated import Inputs
from neurogen.stages.listed import Listed
from neurogen.study.pipeline import Evaluate
from neurogen.study.results import ShownResult
from neurogen.targets.fitting import initialised
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
    shown: Float[Tensor, "shown features"]  # of those of the classes that are shown

    @staticmethod
    def of(inputs: Inputs, tensors: dict[str, Tensor], shown: Split) -> Body:
        """Reads all test samples."""
        own, other = (read_all(inputs.network, tensors, split) for split in (inputs.test.split, shown))
        return Body(inputs.network, tensors, own, other)


@dataclass(frozen=True)
class ShownContext:
    """Classes with the samples that show them."""

    classes: Int64[Tensor, " ways"]
    samples: Split  # labelled by the places of the classes

    @staticmethod
    def draw(shown: Dataset, shots: int, rng: torch.Generator) -> ShownContext:
        """So many training samples of each of at most MOST_CLASSES classes. Raises UserError where there are fewer."""
        labels = shown.train.labels
        classes = torch.randperm(len(shown.class_names), generator=rng)[:MOST_CLASSES]
        chosen = []
        for index in classes.tolist():
            every = (labels == index).nonzero()[:, 0]
            if len(every) < shots:
                raise UserError(
                    f"shown.test_shots={shots} is more than the {len(every)} training samples of "
                    f"{shown.class_names[index]} in {shown.name}; show fewer"
                )
            chosen.append(every[torch.randperm(len(every), generator=rng)[:shots]])
        index = torch.cat(chosen)
        places = torch.arange(len(classes)).repeat_interleave(shots)
        return ShownContext(classes, replace(shown.train.subset(index), labels=places))


def evaluate_shown(
    step: Evaluate,
    inputs: Inputs,
    task: Task,
    lists: Sequence[Listed],
    networks: Sequence[Float[Tensor, " _"]],
    runtime: Runtime,
) -> list[ShownResult]:
    """A result for every number of samples; none where the experiment shows no classes. `networks` were generated for
    the lists, and differ in their rows alone.

    Raises UserError for data that cannot be shown, Interrupted when the stop flag is set.
    """
    if step.shown is None:
        return []
    shown = _readable(inputs.dataset, step.shown.task.load())
    zoo = inputs.layout.tensors(inputs.zoo.mean(0))
    generated = [
        inputs.layout.with_rows(len(episode.classes)).tensors(flat)
        for episode, flat in zip(lists, networks, strict=True)
    ]
    bodies = [Body.of(inputs, tensors, shown.test) for tensors in (generated[0], zoo)]
    train = read_all(inputs.network, zoo, shown.train)
    prototype_rows, _ = shown_rows(task, train, shown.train.labels, len(shown.class_names))
    many = accuracy_of((bodies[1].shown @ prototype_rows.T).argmax(1), shown.test.labels)
    results = []
    for shots in step.shown.shots:
        result = ShownResult(shots, many)
        with Progress(f"shown by {shots}", len(lists), unit="contexts") as progress:
            for number, (named, tensors) in enumerate(zip(lists, generated, strict=True)):
                if runtime.stop.is_set():
                    raise Interrupted
                context = ShownContext.draw(shown, shots, rng_of(step.seed, "shown", shots, number))
                for accuracies, body in zip((result.generated, result.zoo), bodies, strict=True):
                    accuracies.append(_accuracy(task, body, context, shown.test))
                seed = seed_of(step.seed, "trained on few", shots, number)
                result.trained.append(_accuracy_trained(step, inputs, shown, context, seed))
                rows = output_rows(inputs.network, tensors)
                tests = inputs.test.split, shown.test
                of_named, of_shown = _accuracies_mixed(task, bodies[0], named, rows, context, tests)
                result.mixed_named.append(of_named)
                result.mixed_shown.append(of_shown)
                progress.advance()
        results.append(result)
    return results


def _readable(dataset: Dataset, shown: Dataset) -> Dataset:
    """The data of the classes that are shown, prepared as networks for the other data read it.

    Raises UserError for images of another shape, and for classes that the networks were trained on.
    """
    require_alike(dataset, shown)
    both = sorted(set(dataset.class_names) & set(shown.class_names))
    if both:
        raise UserError(
            f"shown.test shows classes that training has not seen, and {', '.join(both[:3])} of {shown.name} are in "
            f"{dataset.name} too; take other data"
        )
    train, test = (replace(split, preparation=dataset.preparation) for split in (shown.train, shown.test))
    return replace(shown, train=train, test=test)


@torch.no_grad()
def read_all(network: nn.Module, tensors: dict[str, Tensor] | None, split: Split) -> Features:
    """The features of all samples of a split, on the CPU."""
    device = next(network.parameters()).device
    moved = None if tensors is None else {name: value.to(device) for name, value in tensors.items()}
    parts = torch.arange(len(split)).split(EVALUATION_BATCH)
    return torch.cat([features(network, moved, split.inputs(part).to(device)).cpu() for part in parts])


def _accuracy(task: Task, body: Body, context: ShownContext, test: Split) -> float:
    """On all test samples of the classes that are shown."""
    read = read_all(body.network, body.tensors, context.samples)
    rows, _ = shown_rows(task, read, context.samples.labels, len(context.classes))
    kept, labels = _of_classes(test, context.classes)
    return accuracy_of((body.shown[kept] @ rows.T).argmax(1), labels)


def _accuracies_mixed(
    task: Task,
    body: Body,
    named: Listed,
    rows: tuple[Float[Tensor, "ways features"], Float[Tensor, " ways"]],
    context: ShownContext,
    tests: tuple[Split, Split],
) -> tuple[float, float]:
    """Of the samples of named and of shown classes, in one list of half of the named ones and as many shown ones.

    `rows` are those of the named ones with their biases; `tests` have the named and the shown classes.
    """
    count = min(len(named.classes) // 2, len(context.classes))
    read = read_all(body.network, body.tensors, context.samples)
    shown, bias = shown_rows(task, read, context.samples.labels, len(context.classes))
    weight = torch.cat([rows[0][:count], shown[:count]])
    biases = torch.cat([rows[1][:count], torch.full((count,), bias)])
    of_named = _of_classes(tests[0], named.classes[:count])
    of_shown = _of_classes(tests[1], context.classes[:count])
    right_named = (body.named[of_named[0]] @ weight.T + biases).argmax(1)
    right_shown = (body.shown[of_shown[0]] @ weight.T + biases).argmax(1)
    return accuracy_of(right_named, of_named[1]), accuracy_of(right_shown, count + of_shown[1])


def _of_classes(split: Split, classes: Int64[Tensor, " ways"]) -> tuple[Int64[Tensor, " kept"], Labels]:
    """(the samples of these classes, their labels as places among these)."""
    labels = split.labels.cpu()
    places = torch.full((int(max(labels.max(), classes.max())) + 1,), -1)
    places[classes] = torch.arange(len(classes))
    kept = (places[labels] >= 0).nonzero()[:, 0]
    return kept, places[labels[kept]]


def _accuracy_trained(step: Evaluate, inputs: Inputs, shown: Dataset, context: ShownContext, seed: int) -> float:
    """Of a network of the same target that is trained on the shown samples alone, under changing hands."""
    names = tuple(shown.class_names[index] for index in context.classes.tolist())
    network, rng = initialised(step.task.target, replace(shown, class_names=names), seed), rng_of(seed)
    samples = context.samples
    assert isinstance(samples.samples, Tensor)
    pictures = samples.samples.float() / 255
    optimizer = torch.optim.AdamW(network.parameters(), LR)
    for _ in range(UPDATES):
        optimizer.zero_grad()
        drawn = samples.preparation((255 * distorted(pictures, rng)).round().byte())
        nn.functional.cross_entropy(network(drawn), samples.labels).backward()
        optimizer.step()
    kept, labels = _of_classes(shown.test, context.classes)
    test = shown.test.subset(kept)
    with torch.no_grad():
        logits = torch.cat([network(test.inputs(part)) for part in torch.arange(len(test)).split(EVALUATION_BATCH)])
    return accuracy_of(logits.argmax(1), labels)
