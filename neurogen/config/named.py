"""What settings of named and shown classes must have in common: pools, lists of classes (dataset.ways), episodes."""

from __future__ import annotations

import os
from importlib.util import find_spec

from neurogen.config.experiment import Experiment
from neurogen.config.generator import TokenOrder
from neurogen.config.schema import written
from neurogen.config.task import DatasetConfig
from neurogen.errors import UserError


def check_named(e: Experiment) -> None:
    """Lists of named classes need names, and tokens that stand behind the names. Raises UserError."""
    dataset, generator, encoder = e.dataset, e.generator, e.evaluate.sentence_encoder
    if encoder is not None and dataset.ways is None:
        raise UserError(f"evaluate.sentence_encoder={encoder} reads names, and dataset.ways=null lists none")
    if encoder is not None and find_spec(encoder) is None:
        raise UserError(
            f"evaluate.sentence_encoder={encoder} needs this package; pip install 'neurogen[names]', or set it to null"
        )
    if dataset.parts and dataset.load != "pool":
        raise UserError(
            f"dataset.parts joins datasets for dataset.load=pool, and it is {dataset.load}; set one of them"
        )
    if dataset.ways is None:
        return
    given = f"dataset.ways={written(dataset.ways)}"
    if len(dataset.ways) != 2 or not 2 <= dataset.ways[0] <= dataset.ways[1]:
        raise UserError(f"{given} must be [fewest,most] classes of a list, the fewest at least 2")
    if not dataset.names:
        raise UserError(
            f"{given} lists classes by name, and dataset {dataset.name} has no names; set dataset.names, as the files "
            "in conf/names do: {CLASS: {train: […], validation: […], test: […]}}"
        )
    if dataset.relabel is not None or dataset.unseen:
        raise UserError(f"{given} draws the classes of every context; leave out dataset.relabel and dataset.unseen")
    if generator.order != TokenOrder.interleaved or generator.context_warmup < 1 or generator.context_samples:
        raise UserError(
            f"{given} needs tokens behind every name, in all steps; set generator.order=interleaved "
            "generator.context_warmup=1 generator.context_samples=0 (preset=named does)"
        )
    if generator.drop_instruction or generator.drop_data or generator.foreign_data:
        raise UserError(f"{given} leaves nothing out of a context; set generator.drop_instruction=0 and the like")
    if e.recipe.inject.is_left_out or e.source is not None or e.held_out:
        raise UserError(f"{given} learns names in stage 1, from a zoo of the same target; leave stage 1 as it is")
    require_different_names(dataset)


def require_different_names(dataset: DatasetConfig) -> None:
    """Raises UserError for a name that two classes have, or two splits."""
    owners: dict[str, str] = {}
    for class_name, names in dataset.names.items():
        for split, options in (("train", names.train), ("validation", names.validation), ("test", names.test)):
            for name in options:
                place = f"{split} of {class_name}"
                other = owners.setdefault(name.casefold(), place)
                if other != place:
                    raise UserError(f"dataset.names has {name!r} in {other} and in {place}; keep it in one of them")


def check_few_shot(e: Experiment) -> None:
    """Classes are shown in lists, as images. Raises UserError."""
    if e.few_shot is None:
        return
    if e.dataset.ways is None:
        raise UserError(
            "few_shot=… shows classes beside named ones, and dataset.ways=null lists none; set preset=few_shot, or "
            "leave it out"
        )
    texts = [dataset.name for dataset in (e.dataset, e.few_shot.data, e.few_shot.test) if dataset.text is not None]
    if texts:
        raise UserError(f"few_shot=… shows classes by images, and {' and '.join(texts)} are texts; take images")
    shots, episodes = e.few_shot.episodes.shots, e.few_shot.episodes
    if len(shots) != 2 or not 1 <= shots[0] <= shots[1]:
        raise UserError(
            f"few_shot.episodes.shots={written(shots)} must be [fewest,most] samples of a class, at least 1"
        )
    if episodes.ways < 2:
        raise UserError(f"few_shot.episodes.ways={episodes.ways} must be at least 2 classes")
    if not e.few_shot.test_shots or min(e.few_shot.test_shots) < 1:
        raise UserError(
            f"few_shot.test_shots={written(e.few_shot.test_shots)} must be numbers of samples, each at least 1"
        )
    if any(_files(e.few_shot.test) == _files(trained) for trained in (*e.dataset.members, *e.few_shot.data.members)):
        raise UserError(
            f"few_shot.test={e.few_shot.test.name} is what the zoo is trained on; take classes that it has not seen"
        )


def _files(dataset: DatasetConfig) -> tuple[object, ...]:
    """What a dataset is read from."""
    return dataset.load, dataset.path and os.path.realpath(dataset.path), dataset.glyphs
