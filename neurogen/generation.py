"""From a request to networks in files: one forward pass of a finished generator each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from neurogen import store
from neurogen.config import Request
from neurogen.data.dataset import Dataset, Split, load_images, require_same
from neurogen.data.images import read_pictures
from neurogen.data.preparation import ImageShape, TokenEmbedding
from neurogen.data.texts import Table, read_table, with_class_indices
from neurogen.errors import UserError
from neurogen.generator.context import Context
from neurogen.generator.folder import load_generator
from neurogen.generator.generator import Generator
from neurogen.generator.prompts import mentioned
from neurogen.generator.task import Task
from neurogen.rng import rng_of
from neurogen.stages.embed import text_dataset, text_split, token_ids
from neurogen.targets.prediction import evaluate_network
from neurogen.training.runtime import runtime_here


def generate(request: Request) -> list[Path]:
    """Write the networks, print what was understood and how good they are; returns the files."""
    runtime = runtime_here(request.device, request.num_threads)
    generator = load_generator(Path(request.generator), runtime)
    task, understood = _choose(generator.tasks, request)
    instruction = task.instruction if request.instruction is None else request.instruction
    own = None
    if request.samples is None or request.test == "own":
        own = _own_data(request, generator, task)
    samples = own.train if request.samples is None and own else _read(Path(request.samples or ""), generator, task)
    test = own.test if request.test == "own" and own else None
    if test is None and request.test is not None:
        test = _read(Path(request.test), generator, task)
    network = task.network().to(runtime.device)
    print(f"task         {task.name}: {task.layout.num_parameters:,} parameters; {understood}")
    print(f"instruction  {instruction}")
    paths = _paths(Path(request.out), request.num_networks)
    for number, path in enumerate(paths):
        random = rng_of(request.seed, "generate", number)
        context = Context.sample(samples, task.class_names, generator.config, random)
        started = time.perf_counter()
        with torch.no_grad():
            tensors = generator.decode(task.name, generator(task.name, instruction, context))
        said = (
            f"{path}  from samples of {', '.join(context.labels) or 'nothing'}; {time.perf_counter() - started:.2f} s"
        )
        about = {"dataset": task.dataset.name, "target": task.target.name, "instruction": instruction}
        store.write_tensors(path, tensors, about)
        if test is not None:
            _, accuracy = evaluate_network(network, tensors, test, runtime)
            said += f"; test accuracy {100 * accuracy:.2f} % (n = {len(test)})"
        print(f"network      {said}", flush=True)
    return paths


def _choose(tasks: Mapping[str, Task], request: Request) -> tuple[Task, str]:
    """The task that is asked for by name, or whose network and data the instruction mentions; and how it was found.

    Raises UserError where that is none, or several.
    """
    if request.task is not None:
        if request.task not in tasks:
            raise UserError(f"task={request.task} is none of this generator's; allowed: {', '.join(tasks)}")
        return tasks[request.task], "as task= says"
    titles = {name: (task.target.title, task.dataset.title) for name, task in tasks.items()}
    told = mentioned(request.instruction or "", {title for own in titles.values() for title in own})
    found = {name: [title for title in own if title in told] for name, own in titles.items()}
    most = max(map(len, found.values()))
    best = [name for name, own in found.items() if len(own) == most]
    if len(best) > 1:
        said = (
            " and ".join(sorted({title for name in best for title in found[name]})) or "none of their networks or data"
        )
        which = f"the instruction mentions {said}" if request.instruction else "there is no instruction"
        raise UserError(
            f"{which}, and the generator knows {', '.join(best)}; give task=NAME, or an instruction with both"
        )
    understood = " and ".join(found[best[0]])
    return tasks[best[0]], f"the instruction says {understood}" if understood else "the only one that it knows"


def _own_data(request: Request, generator: Generator, task: Task) -> Dataset:
    """What the generator was trained on; other data of that name would have other samples in its test split."""
    if isinstance(task.preparation, TokenEmbedding):
        dataset, _ = text_dataset(task.dataset, generator.backbone.tokenizer, task.preparation)
    else:
        dataset = load_images(task.dataset)
    require_same(dataset, task.fingerprint, Path(request.generator))
    return dataset


def _read(path: Path, generator: Generator, task: Task) -> Split:
    """Samples of the task's classes, in the size and with the preparation that the generator was trained on."""
    if isinstance(task.shape, ImageShape):
        images, numbers = read_pictures(path, task.class_names, task.shape.channels, task.shape.size)
        return Split(torch.from_numpy(images), torch.from_numpy(numbers), task.preparation)
    assert task.dataset.text is not None
    assert isinstance(task.preparation, TokenEmbedding)
    table = read_table(path, task.dataset.text)
    texts = table.texts
    labels = [str(label) if str(label) in task.class_names else label for label in table.labels]
    (samples,), _ = with_class_indices([Table(texts, labels)], task.class_names, str(path))
    numbers = samples.labels
    if not np.isin(numbers, range(len(task.class_names))).all():
        raise UserError(f"{path} has labels beside 0 … {len(task.class_names) - 1} ({', '.join(task.class_names)})")
    return text_split(token_ids(texts, generator.backbone.tokenizer), numbers, task.dataset, task.preparation)


def _paths(out: Path, num_networks: int) -> list[Path]:
    if num_networks == 1:
        return [out]
    return [out.with_stem(f"{out.stem}-{number}") for number in range(num_networks)]
