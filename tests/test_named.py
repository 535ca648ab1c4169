"""Settings of named classes: the names in conf/names, and what cannot go together."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from neurogen.choices import conf_folder, groups, names_of
from neurogen.config.rules import validate
from neurogen.config.task import NamesConfig
from neurogen.data.images import CIFAR10_NAMES, DIGIT_NAMES
from neurogen.errors import UserError
from neurogen.run import compose
from neurogen.stages.listed import MEANINGLESS
from tests.conftest import Composed

NAMED = "preset=named"
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
NEWS = ("World", "Sports", "Business", "Sci/Tech")
CLASSES = {
    **dict.fromkeys(("mnist", "mnist5k", "digits", "svhn"), DIGIT_NAMES),
    "fashion_mnist": FASHION,
    "mnist_fashion": DIGIT_NAMES + FASHION,
    "cifar10": CIFAR10_NAMES,
    "ag_news": NEWS,
}


def test_every_file_of_names_belongs_to_a_dataset() -> None:
    assert sorted(path.stem for path in Path(conf_folder(), "names").glob("*.yaml")) == sorted(CLASSES)
    assert set(CLASSES) <= set(groups()["dataset"])


@pytest.mark.parametrize("dataset", CLASSES)
def test_every_class_has_names_enough_and_no_name_is_there_twice(experiment: Composed, dataset: str) -> None:
    names = {key: NamesConfig(**options) for key, options in names_of(dataset, None, [4, 8]).items()}
    assert tuple(names) == tuple(CLASSES[dataset])
    meaningless = {word for words in MEANINGLESS.values() for word in words}
    for options in names.values():
        assert len(options.train) >= 4
        assert len(options.validation) >= 2
        assert len(options.test) >= 4
        assert not {name.casefold() for name in options.train + options.validation + options.test} & meaningless
    text = ["target=mlp"] if dataset == "ag_news" else []
    assert experiment(f"dataset={dataset}", NAMED, *text).dataset.names == names  # no name is refused


def test_names_may_stand_in_the_file_of_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    names = {name: {"train": [name], "validation": [f"{name}s"], "test": [f"a {name}"]} for name in ("cat", "dog")}
    file = {"defaults": ["image_folder"], "name": "pets", "path": "/tmp", "names": names}
    (tmp_path / "dataset" / "pets.yaml").write_text(json.dumps(file))
    words = [f"hydra.searchpath=[file://{tmp_path}]", "dataset=pets", "dataset.ways=[2,2]"]
    assert compose([*words, NAMED]).dataset.names == {key: NamesConfig(**options) for key, options in names.items()}
    assert compose(["dataset=kanji"]).dataset.names == {}  # no list is read without lists


def test_a_dataset_without_names_says_what_to_do(experiment: Composed) -> None:
    with pytest.raises(UserError, match=r"dataset image_folder has no names; set dataset.names, as the files"):
        experiment("dataset=image_folder", "dataset.path=/tmp", NAMED)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset.ways=[1,3]"], r"dataset.ways=\[1,3\] must be \[fewest,most\]"),
        (["dataset.ways=[5,3]"], "must be"),
        (["dataset.ways=[3]"], "must be"),
        (["dataset.relabel=random"], "leave out dataset.relabel and dataset.unseen"),
        (["generator.order=context_first"], "set generator.order=interleaved"),
        (["generator.context_samples=4"], "generator.context_samples=0"),
        (["generator.context_warmup=0.5"], "generator.context_warmup=1"),
        (["generator.drop_data=0.5"], "leaves nothing out of a context"),
        (["recipe.inject.steps=0", "recipe.tune.anchor=0", "generator.scale=fan_in"], "learns names in stage 1"),
        (["dataset.parts=[{name: a, load: mnist, path: null}]"], "for dataset.load=pool, and it is digits"),
    ],
)
def test_what_does_not_go_with_lists(experiment: Composed, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        experiment(NAMED, *words)


def test_a_sentence_encoder_needs_names_to_read_and_its_package(
    experiment: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["evaluate.sentence_encoder=wordllama"]
    chosen = experiment(NAMED, *words)
    with pytest.raises(UserError, match=r"reads names, and dataset\.ways=null lists none"):
        experiment(*words)
    monkeypatch.setitem(sys.modules, "wordllama", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"needs this package; pip install 'neurogen\[names\]', or set it to null"):
        validate(chosen)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (NamesConfig(["seven"], ["VII"], ["Eight"]), "'eight' in test of 7 and in train of 8; keep it in one of them"),
        (NamesConfig(["seven"], ["VII"], ["Seven"]), "'Seven' in train of 7 and in test of 7"),
    ],
)
def test_a_name_that_is_there_twice(experiment: Composed, names: NamesConfig, message: str) -> None:
    chosen = experiment(NAMED)
    named = replace(chosen.dataset, names=chosen.dataset.names | {"7": names})
    with pytest.raises(UserError, match=message):
        validate(replace(chosen, dataset=named))


def test_results_without_lists_keep_their_identity(experiment: Composed) -> None:
    """Keys that came later count where they are set."""
    from neurogen.study.graph import steps_of
    from neurogen.study.step import plain

    dataset = experiment().dataset
    assert not {"ways", "names", "parts"} & set(plain(dataset, identity=True))
    assert {"ways", "names"} < set(plain(experiment(NAMED).dataset, identity=True))
    named, other = (steps_of([experiment(*words)]).evaluations[0] for words in ((NAMED,), ()))
    assert named.zoo.references[0].key == other.zoo.references[0].key  # one zoo serves both
    assert named.tune.key != other.tune.key


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset.ways=null", "dataset.names={}"], "dataset.ways=null lists none; set preset=few_shot"),
        (["few_shot.episodes.shots=[2,1]"], r"few_shot.episodes.shots=\[2,1\] must be \[fewest,most\]"),
        (["few_shot.episodes.shots=[0,1]"], "at least 1"),
        (["few_shot.episodes.shots=[1]"], "must be"),
        (["few_shot.episodes.ways=1"], "few_shot.episodes.ways=1 must be at least 2 classes"),
        (["few_shot.test_shots=[]"], "must be numbers of samples"),
        (["few_shot.test_shots=[0,2]"], "each at least 1"),
        (["few_shot.episodes.queries=0"], "must be above 0"),
        (["dataset@few_shot.test=digits"], "few_shot.test=digits is what the zoo is trained on"),
        (["dataset@few_shot.test=rotten_tomatoes"], "rotten_tomatoes are texts; take images"),
    ],
)
def test_classes_that_cannot_be_shown(experiment: Composed, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        experiment("preset=few_shot", "dataset=digits", *words)


def test_another_way_to_the_pictures_of_the_zoo_is_no_new_data(experiment: Composed) -> None:
    few = experiment("preset=few_shot", "dataset=digits").few_shot
    assert few is not None
    seen, shown = (
        replace(data, load="image_folder", glyphs=None, path=path)
        for data, path in ((few.data, "tests"), (few.test, "./docs/../tests"))
    )
    with pytest.raises(UserError, match="is what the zoo is trained on"):
        validate(replace(experiment("preset=few_shot", "dataset=digits"), few_shot=replace(few, data=seen, test=shown)))
