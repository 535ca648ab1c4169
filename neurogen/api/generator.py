"""A finished generator, ready to generate: an instruction and a few labelled samples in, networks out.

    generator = neurogen.load("runs/tune/FOLDER")
    network = generator.generate(images, labels)
    network(images)      # logits [samples, classes]

Each network takes one forward pass of the language model.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import torch

from neurogen.api.classifier import Classifier, Prompt
from neurogen.api.few_shot import SupportClass, contradictions, places_of, show
from neurogen.api.hub import copy_for_others, download, is_hub_name, upload
from neurogen.api.names import doubts, listed, readings_of
from neurogen.api.samples import SampleReader
from neurogen.api.source import require_same_source
from neurogen.data.arrays import relocated
from neurogen.data.dataset import Dataset, Split, load_images, require_same
from neurogen.data.preparation import TokenEmbedding
from neurogen.errors import UserError, advising
from neurogen.generator import prompts
from neurogen.generator.card import HERE, hub_name
from neurogen.generator.context import Context
from neurogen.generator.folder import DESCRIPTION_FILE, Description, load_generator, read_description
from neurogen.generator.generator import Generator
from neurogen.generator.latent import draw_code
from neurogen.generator.task import Task
from neurogen.rng import rng_of
from neurogen.stages.embed import text_dataset
from neurogen.store import Unwritable
from neurogen.training.numerics import Numerics
from neurogen.training.runtime import BATCH_TOKENS, runtime_here


def load(
    source: str | Path, *, revision: str | None = None, device: str = "auto", num_threads: int = 0
) -> LoadedGenerator:
    """The generator in the folder of a finished tune or inject step, or on the Hugging Face Hub.

    source       a folder, or OWNER/NAME on the Hub
    revision     of what is on the Hub: a branch, a tag or a commit
    device       auto, cpu or cuda
    num_threads  of the CPU, for everything that torch does in this process; 0 leaves them as they are

    Raises UserError where there is no generator, its backbone cannot be had, or the device is not there.
    """
    folder = Path(source)
    is_foreign = not folder.is_dir() and is_hub_name(str(source))
    if is_foreign:
        folder = download(str(source), revision)
    if not (folder / DESCRIPTION_FILE).is_file():
        raise UserError(f"{folder / DESCRIPTION_FILE} is missing: give the folder of a finished tune or inject step")
    for task in read_description(folder).tasks.values():
        require_same_source(task.target)
    return LoadedGenerator(load_generator(folder, runtime_here(device, num_threads)), folder, is_foreign)


class LoadedGenerator:
    """`module` is the generator itself, a torch.nn.Module (neurogen/generator/generator.py)."""

    def __init__(self, module: Generator, folder: Path, is_foreign: bool = False) -> None:
        """`is_foreign` says that the folder came from the Hub."""
        self.module, self.folder, self.is_foreign = module, folder, is_foreign

    @cached_property
    def description(self) -> Description:
        """What the generator was built from."""
        return read_description(self.folder)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks that it has learned, DATASET-TARGET."""
        return tuple(self.module.tasks)

    @overload
    def generate(
        self,
        samples: Any = None,
        labels: Any = None,
        *,
        classes: str | Sequence[str] | None = None,
        instruction: str | None = None,
        num_networks: None = None,
        task: str | None = None,
        seed: int = 0,
    ) -> Classifier: ...

    @overload
    def generate(
        self,
        samples: Any = None,
        labels: Any = None,
        *,
        classes: str | Sequence[str] | None = None,
        instruction: str | None = None,
        num_networks: int,
        task: str | None = None,
        seed: int = 0,
    ) -> list[Classifier]: ...

    def generate(
        self,
        samples: Any = None,
        labels: Any = None,
        *,
        classes: str | Sequence[str] | None = None,
        instruction: str | None = None,
        num_networks: int | None = None,
        task: str | None = None,
        seed: int = 0,
    ) -> Classifier | list[Classifier]:
        """Generate one network, or a list of `num_networks` networks from as many contexts.

        samples      images [samples, channels, height, width] as bytes or as floats from 0 to 1, or a list of texts;
                     left out: training samples of the task's own dataset
        labels       their classes, as numbers or names
        classes      the names of the classes that the network shall tell apart, for a generator that reads such lists;
                     one text with commas, or a list. Those that have samples, with their names as labels, get rows made
                     of these, also if the generator has never met such classes; the others are read by name.
                     `network.prompt.readings` says what it took each name for, `.support` what the samples resemble
        instruction  what to generate; left out: the instruction that the generator was tuned with
        task         which of its tasks, where it has learned several and the instruction does not say
        seed         which of the samples each context holds; it has as many as the generator was tuned with. Where its
                     networks have codes (generator.latent), also which ones

        Raises UserError for samples or labels that the task does not have, where the task is not clear, and for a list
        of classes as neurogen/api/names.py says. Warns of doubtful names.
        """
        if num_networks is not None and num_networks < 1:
            raise UserError(f"num_networks={num_networks} must be at least 1")
        if (samples is None) != (labels is None):
            raise UserError("samples and labels belong together; give both, or neither")
        chosen, _ = choose_task(self.module.tasks, instruction, task)
        if classes is not None or self.module.tasks[chosen].lists_classes:
            if num_networks is not None:
                raise UserError("a list of classes makes one network; leave out num_networks")
            names = listed(classes, self.module.tasks[chosen])
            support = None if samples is None else self.reader(chosen, names).split(samples, labels)
            network = self.listed(names, support, instruction, chosen)
            assert network.prompt is not None
            for line in [
                *doubts(network.prompt.readings, self.module.tasks[chosen]),
                *contradictions(network.prompt.support),
            ]:
                warnings.warn(line, stacklevel=2)
            return network
        split = self.dataset(chosen).train if samples is None else self.reader(chosen).split(samples, labels)
        networks = self.iterate(split, instruction, chosen, num_networks or 1, seed)
        return next(networks) if num_networks is None else list(networks)

    def iterate(
        self, split: Split, instruction: str | None, task: str, num_networks: int, seed: int
    ) -> Iterator[Classifier]:
        """The networks one by one, each from samples of the split that are drawn for it."""
        about, reader = self.module.tasks[task], self.reader(task)
        text = about.instruction if instruction is None else instruction
        at_once = self.module.prompts_at_once(BATCH_TOKENS)
        for first in range(0, num_networks, at_once):
            rngs = [rng_of(seed, "generate", index) for index in range(first, min(first + at_once, num_networks))]
            contexts = [Context.sample(split, about.class_names, self.module.config, rng) for rng in rngs]
            codes = [draw_code(self.module.config.latent, rng) for rng in rngs]
            read = [prompts.Prompt(text, context, code=code) for context, code in zip(contexts, codes, strict=True)]
            with torch.no_grad(), Numerics().applied():
                generated = self.module(task, read)
            for z, context in zip(generated, contexts, strict=True):
                prompt = Prompt(about.dataset.name, about.target.name, text, context.labels)
                network = Classifier(about.network(), self.module.decode(task, z), reader, prompt)
                yield network.to(self.module.backbone.device)

    @torch.no_grad()
    @Numerics().applied()
    def listed(self, names: tuple[str, ...], support: Split | None, instruction: str | None, task: str) -> Classifier:
        """The network for a list of classes. Those with samples, labelled by their places, are not read by name."""
        about = self.module.tasks[task]
        text = about.instruction if instruction is None else instruction
        places = places_of(support)
        named = tuple(name for place, name in enumerate(names) if place not in places)
        read = named or about.class_names[:1]  # the layers before the output layer are the same for all lists
        (z,) = self.module(task, [prompts.Prompt(text, None, read)])
        tensors = self.module.decode(task, z, len(read))
        described: list[SupportClass] = []
        if support is not None:
            body = about.listing(read).network().to(self.module.backbone.device)
            tensors, described = show(about, body, tensors, names, support)
        readings = readings_of(z, named, about) if named else []
        prompt = Prompt(about.dataset.name, about.target.name, text, (), tuple(readings), tuple(described))
        network = Classifier(about.listing(names).network(), tensors, self.reader(task, names), prompt)
        return network.to(self.module.backbone.device)

    def reader(self, task: str, listed_names: tuple[str, ...] | None = None) -> SampleReader:
        """What makes samples of a task, or of the classes of a list, from a user's arrays, texts or files."""
        about = self.module.tasks[task]
        about = about if listed_names is None else about.listing(listed_names)
        shared = (about.dataset, about.shape, about.class_names, about.preparation)
        if about.dataset.text is None:
            return SampleReader(*shared)
        name = hub_name(self.description.backbone)
        return SampleReader(*shared, self.module.backbone.tokenizer, name, about.source_labels)

    def dataset(self, task: str) -> Dataset:
        """The dataset that the generator was trained on. Raises UserError where it is gone, or has changed since."""
        about = self.module.tasks[task]
        if self.is_foreign and "." in about.dataset.load:
            raise UserError(f"the data of {task} is loaded by a function of its author; give samples and labels")
        config = relocated(about.dataset, self.folder)
        try:
            if isinstance(about.preparation, TokenEmbedding):
                dataset, _ = text_dataset(config, self.module.backbone.tokenizer, about.preparation)
            else:
                dataset = load_images(config)
        except UserError as error:
            raise UserError(
                f"the data of {task} cannot be read ({error}); put them back, or give samples of your own"
            ) from error
        require_same(dataset, about.fingerprint, self.folder)
        return dataset

    def save(self, folder: str | Path, *, backbone: str | None = None) -> None:
        """Copy the generator into a folder that others can load, with a model card that has the run's figures.

        `backbone` is OWNER/NAME of the language model on the Hub, where this generator has it from a folder.
        Raises UserError where that is needed and not given, and where the folder cannot be written.
        """
        with advising(Unwritable, "free some space or give another folder"):
            copy_for_others(self.folder, Path(folder), backbone=backbone, source=HERE)

    def push_to_hub(
        self, repo_id: str, *, backbone: str | None = None, private: bool = False, token: str | None = None
    ) -> str:
        """The same as a repository OWNER/NAME on the Hub, which is created where it is not there; returns its address.

        `token` is for an account that may write there; left out: that of `hf auth login`, or HF_TOKEN.
        Raises UserError as `save` does, and where the Hub refuses.
        """
        return upload(self.folder, repo_id, backbone=backbone, private=private, token=token)

    def __repr__(self) -> str:
        return f"LoadedGenerator({self.folder}: {', '.join(self.tasks)})"


def choose_task(tasks: Mapping[str, Task], instruction: str | None, task: str | None) -> tuple[str, str]:
    """(name of the task, why it is this one): the task asked for by name, or the best match of the instruction.

    The best match is the task of which the instruction mentions most: the title of its network, of its data, or both.
    Raises UserError where there is no such task, or several are equally good.
    """
    if task is not None:
        if task not in tasks:
            raise UserError(f"task={task} is none of this generator's; allowed: {', '.join(tasks)}")
        return task, "as task= says"
    titles = {name: (about.target.title, about.dataset.title) for name, about in tasks.items()}
    in_text = prompts.mentioned(instruction or "", {title for pair in titles.values() for title in pair})
    matches = {name: [title for title in pair if title in in_text] for name, pair in titles.items()}
    most = max(map(len, matches.values()))
    best = [name for name, match in matches.items() if len(match) == most]
    if len(best) > 1:
        words = sorted({title for name in best for title in matches[name]})
        listed = " and ".join(words) or "none of their networks or data"
        reason = f"the instruction mentions {listed}" if instruction else "there is no instruction"
        raise UserError(
            f"{reason}, and the generator knows {', '.join(best)}; give task=NAME, or an instruction with both"
        )
    match = " and ".join(matches[best[0]])
    return best[0], f"the instruction says {match}" if match else "the only one that it knows"
