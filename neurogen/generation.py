"""From a request to networks in files: one forward pass of a finished generator each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import torch

from neurogen import store
from neurogen.config import Request
from neurogen.data.dataset import Dataset, Split, load_dataset, require_same
from neurogen.data.images import read_pictures
from neurogen.errors import UserError
from neurogen.generator_folder import load_generator
from neurogen.runtime import generator_of, runtime_here
from neurogen.task import Context, TaskDescription
from neurogen.zoo import evaluate_network


def generate(request: Request) -> list[Path]:
    """Write the networks, print what was understood and how good they are; returns the files."""
    runtime = runtime_here(request.device, request.num_threads)
    generator = load_generator(Path(request.generator), runtime)
    task = _choose(generator.tasks, request.task)
    instruction = task.instruction if request.instruction is None else request.instruction
    samples = _own_data(request, task).train if request.samples is None else _pictures(request.samples, task)
    test = _test(request, task)
    network = task.network().to(runtime.device)
    print(f"task         {task.name}: {task.layout.num_parameters:,} parameters\ninstruction  {instruction}")
    paths = _paths(Path(request.out), request.num_networks)
    for number, path in enumerate(paths):
        random = generator_of(request.seed, "generate", number)
        context = Context.sample(samples, task.class_names, generator.config.context_samples, random)
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


def _choose(tasks: Mapping[str, TaskDescription], name: str | None) -> TaskDescription:
    if name is None and len(tasks) == 1:
        return next(iter(tasks.values()))
    if name is None or name not in tasks:
        raise UserError(f"task={name} is not what this generator was trained for; allowed: {', '.join(tasks)}")
    return tasks[name]


def _test(request: Request, task: TaskDescription) -> Split | None:
    if request.test is None:
        return None
    return _own_data(request, task).test if request.test == "own" else _pictures(request.test, task)


def _own_data(request: Request, task: TaskDescription) -> Dataset:
    """What the generator was trained on; other data of that name would have other samples in its test split."""
    dataset = load_dataset(task.dataset)
    require_same(dataset, task.fingerprint, Path(request.generator))
    return dataset


def _pictures(folder: str, task: TaskDescription) -> Split:
    """Pictures of the task's classes, in the size and with the normalisation that the generator was trained on."""
    images, labels = read_pictures(Path(folder), task.class_names, task.shape.channels, task.shape.size)
    return Split(torch.from_numpy(images), torch.from_numpy(labels), task.image_mean, task.image_std)


def _paths(out: Path, num_networks: int) -> list[Path]:
    if num_networks == 1:
        return [out]
    return [out.with_stem(f"{out.stem}-{number}") for number in range(num_networks)]
