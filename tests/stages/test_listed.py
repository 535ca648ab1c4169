"""Lists of named classes: exact rows, labels, and what training never draws."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch.func import functional_call

from neurogen.config import NamesConfig
from neurogen.data.dataset import load_images
from neurogen.data.splits import SplitName
from neurogen.errors import UserError
from neurogen.generator.losses import ZooMoments, injection_loss
from neurogen.stages.episode import restricted
from neurogen.stages.held_out import is_held_out
from neurogen.stages.listed import MEANINGLESS, Listed, meaningless_words
from neurogen.targets.parameters import ParameterLayout, Scale
from tests.conftest import Composed
from tests.stages.test_relabel import EVERY_TARGET

TRAIN, VALIDATION, TEST = SplitName
CLASSES = tuple("abcdefg")
NAMES = {name: NamesConfig([name, f"{name}1"], [f"{name}2"], [f"{name}3", f"{name}4"]) for name in CLASSES}
LAYOUT = ParameterLayout(("weight", "bias"), ((7, 3), (7,)))


@EVERY_TARGET
def test_a_network_for_a_list_says_the_same_of_its_classes(network: torch.nn.Module, inputs: torch.Tensor) -> None:
    layout = ParameterLayout.of(network)
    flat = layout.flatten(dict(network.named_parameters()))
    episode = Listed(torch.tensor([3, 0, 4]), ("d", "a", "e"), layout)
    of_list, small = episode.parameters(flat), layout.with_rows(3)
    logits = functional_call(network, layout.tensors(flat), (inputs,))
    others = functional_call(network, small.tensors(of_list), (inputs,))
    torch.testing.assert_close(others, logits[:, [3, 0, 4]])
    scale = Scale.of_zoo(torch.stack([flat, 2 * flat]), layout, None)
    torch.testing.assert_close(scale.with_rows(3).encode(of_list), episode.parameters(scale.encode(flat)))


def test_labels_are_places_in_the_list() -> None:
    episode = Listed(torch.tensor([5, 2]), ("five", "two"), LAYOUT)
    classes = torch.tensor([2, 5, 1, 2, 6])
    belongs = episode.includes(classes)
    assert belongs.tolist() == [True, True, False, True, False]
    assert episode.labels(classes[belongs]).tolist() == [1, 0, 1]


def test_a_split_without_the_other_classes(experiment: Composed) -> None:
    test = load_images(experiment().dataset).test
    layout = ParameterLayout(("weight",), ((10, 3),))
    kept = restricted(test, Listed(torch.tensor([8, 1]), ("eight", "one"), layout))
    assert len(kept) == int((test.labels == 8).sum() + (test.labels == 1).sum())
    assert torch.equal(kept.samples[kept.labels == 0], test.samples[test.labels == 8])


def draws(ways: int, split: SplitName, count: int = 200) -> list[Listed]:
    rng = torch.Generator().manual_seed(0)
    return [Listed.draw(CLASSES, NAMES, ways, LAYOUT, rng, split) for _ in range(count)]


def test_sets_of_classes_of_training_and_evaluation_never_meet() -> None:
    every = list(itertools.combinations(range(7), 3))
    assert 0.1 < sum(map(is_held_out, every)) / len(every) < 0.35
    seen, validation, test = (
        {tuple(sorted(drawn.classes.tolist())) for drawn in draws(3, split)} for split in (TRAIN, VALIDATION, TEST)
    )
    assert len(seen) > 10
    assert not seen & (validation | test)


@pytest.mark.parametrize(
    ("num_classes", "ways"), [(size, ways) for size in range(4, 10) for ways in range(2, size)] + [(20, 2)]
)
def test_there_are_lists_for_every_split(num_classes: int, ways: int) -> None:
    """Of few sets of classes a hash may hold out none. Those of training are never drawn later."""
    rng, classes = torch.Generator().manual_seed(0), tuple("abcdefghijklmnopqrst"[:num_classes])
    names = {name: NamesConfig([name], [f"{name}2"], [f"{name}3"]) for name in classes}
    layout = ParameterLayout(("weight", "bias"), ((num_classes, 3), (num_classes,)))
    seen, *judged = (
        {tuple(sorted(Listed.draw(classes, names, ways, layout, rng, split).classes.tolist())) for _ in range(30)}
        for split in (TRAIN, VALIDATION, TEST)
    )
    assert seen
    assert all(drawn and not drawn & seen for drawn in judged)


def test_every_split_has_names_of_its_own() -> None:
    for split in SplitName:
        allowed = {name for names in NAMES.values() for name in getattr(names, split)}
        drawn = draws(4, split, 50)
        assert {name for episode in drawn for name in episode.class_names} == allowed
        assert all(
            name in getattr(NAMES[CLASSES[index]], split)
            for episode in drawn
            for index, name in zip(episode.classes.tolist(), episode.class_names, strict=True)
        )


def test_a_list_of_all_classes_is_never_held_out() -> None:
    assert {len(episode.classes) for split in SplitName for episode in draws(7, split, 3)} == {7}


@pytest.mark.parametrize("names", [{}, {name: replace(options, test=[]) for name, options in NAMES.items()}])
def test_a_class_without_names_is_named(names: dict[str, NamesConfig]) -> None:
    with pytest.raises(UserError, match=r"dataset.names has no test names for the class '[a-g]'"):
        Listed.draw(CLASSES, names, 3, LAYOUT, torch.Generator(), TEST)


def test_rows_weigh_as_much_as_all_other_parameters() -> None:
    """Else the few values that names decide would hardly count."""
    z, zoo = torch.tensor([1.0, 1.0, 1.0, 5.0]), torch.zeros(2, 4)
    moments = ZooMoments.of(zoo)
    assert float(injection_loss(z, moments)) == 7.0
    assert float(injection_loss(z, replace(moments, parts=(3, 1)))) == 13.0


def test_words_that_mean_nothing_say_nothing_of_those_for_test() -> None:
    assert not set(MEANINGLESS[VALIDATION]) & set(MEANINGLESS[TEST])
    rng = torch.Generator().manual_seed(0)
    words = meaningless_words(24, TEST, rng)
    assert set(words[:10]) == set(words[10:20]) == set(MEANINGLESS[TEST])
