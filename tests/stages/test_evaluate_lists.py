"""Evaluation of networks for lists of named classes, from the zoo to the tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from neurogen import store
from neurogen.config import SentenceEncoder
from neurogen.data.dataset import load_images
from neurogen.data.splits import SplitName
from neurogen.generator.backbone import Backbone
from neurogen.generator.folder import load_generator
from neurogen.generator.loading import load_backbone
from neurogen.generator.prompts import Prompt
from neurogen.report.cells import cells_of, row_of
from neurogen.report.tables import of_row
from neurogen.stages.episode import restricted
from neurogen.stages.evaluate_lists import LISTS, Generated, ListContext, generate_lists
from neurogen.stages.evaluated import Inputs
from neurogen.stages.listed import names_of
from neurogen.stages.name_baselines import KnownNames, chosen_classes
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.study.pipeline import Aggregate
from neurogen.study.results import Naming, Population
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout
from neurogen.targets.zoo import load_network, network_path
from neurogen.training.runtime import Runtime
from tests.conftest import Composed
from tests.generator.test_lists import NAMED

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture
def study(shared_experiment: Composed, runtime: Runtime) -> Aggregate:
    last = steps_of([shared_experiment(*NAMED, "evaluate.num_contexts=3")])
    for step in in_order(last):
        step.run(runtime)
    return last


def test_networks_are_judged_on_the_samples_of_their_lists(study: Aggregate) -> None:
    (evaluation,) = study.evaluations
    result = evaluation.result()
    dataset = load_images(evaluation.task.dataset)
    network = build_network(evaluation.task.target, dataset.shape)
    for index, description in enumerate(store.read_json(evaluation.folder / LISTS)):
        classes, names = description["classes"], description["names"]
        for number, name in zip(classes, names, strict=True):
            assert name in names_of(str(number), evaluation.task.dataset.names, SplitName.TEST)
        layout = ParameterLayout.of(network).with_rows(len(classes))
        flat = load_network(network_path(evaluation.folder, index), layout)
        belongs = torch.isin(dataset.test.labels, torch.tensor(classes))
        logits = functional_call(network, layout.tensors(flat), (dataset.test.inputs(belongs),))
        answers = torch.tensor(classes)[logits.argmax(1)]
        expected = float((answers == dataset.test.labels[belongs]).double().mean())
        assert result.populations[Population.GENERATED].accuracy[index] == pytest.approx(expected)


def test_settings_are_chosen_by_names_for_validation(study: Aggregate, runtime: Runtime) -> None:
    """Neither by those that training reads nor by those for the table, and on samples for validation."""
    (evaluation,) = study.evaluations
    inputs = Inputs.of(evaluation, runtime)
    contexts = [ListContext.draw(evaluation, inputs, number) for number in range(3)]
    generator = load_generator(evaluation.tune.folder, runtime)
    (task,) = generator.tasks.values()
    rows = generate_lists(generator, task, [context.validation_names for context in contexts], runtime)
    accuracies = []
    for context, z in zip(contexts, rows, strict=True):
        classes = context.episode.classes
        for index, name in zip(classes.tolist(), context.validation_names, strict=True):
            assert name in names_of(str(index), evaluation.task.dataset.names, SplitName.VALIDATION)
        layout = inputs.layout.with_rows(len(classes))
        split = restricted(inputs.dataset.validation, context.episode)
        flat = task.scale.with_rows(len(classes)).decode(z)
        logits = functional_call(inputs.network, layout.tensors(flat), (split.batch(torch.arange(len(split)))[0],))
        accuracies.append(float((logits.argmax(1) == split.labels).double().mean()))
    assert evaluation.result().validation_accuracy == pytest.approx(sum(accuracies) / 3)


def test_every_name_has_a_row_in_every_table(study: Aggregate) -> None:
    (evaluation,) = study.evaluations
    result = evaluation.result()
    lists = store.read_json(evaluation.folder / LISTS)
    num_names = sum(len(description["names"]) for description in lists)
    judged = {name: naming.right for name, naming in result.naming.items() if name != Naming.NONSENSE}
    assert {len(right or ()) for right in judged.values()} == {num_names}
    assert result.naming[Naming.NONSENSE].right is None
    assert set(map(str, Naming)) < set(result.naming)
    zoo_mean = result.populations[Population.ZOO_MEAN].accuracy
    assert min(zoo_mean) > 0.8  # the rows of the classes that are meant
    ((cell, members),) = cells_of(study).items()
    row = row_of(cell, members)
    tables = {table.title: table for table in of_row(row)}
    assert list(tables) == ["networks", "naming", "conditions"]
    assert {summary.n for summary in row.naming.values()} == {num_names}
    words = next(line for line in tables["naming"].rows if line[0] == Naming.NONSENSE)
    assert words[2] == "–"
    assert (study.folder / "report.html").read_text(encoding="utf-8").count('data-table="naming"') == 1
    assert list(study.folder.glob("lists-*.png"))


def test_a_generator_that_follows_names_has_their_rows(
    study: Aggregate, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the names stand in another order."""
    (evaluation,) = study.evaluations
    generator = load_generator(evaluation.tune.folder, runtime)
    (task,) = generator.tasks.values()
    assert task.known is not None
    inputs = Inputs.of(evaluation, runtime)
    contexts = [ListContext.draw(evaluation, inputs, number) for number in range(3)]
    names = evaluation.task.dataset.names
    classes = {word: int(name) for name, given in names.items() for word in (*given.train, *given.test)}
    known, inner = task.known.rows, torch.zeros(task.layout.firsts[task.layout.output[0]])

    def rows_of_names(name: str, prompts: Sequence[Prompt], at_once: int) -> Iterator[tuple[int, Tensor]]:
        for index, prompt in enumerate(prompts):
            rows = known[[classes.get(listed, 0) for listed in prompt.listed or ()]]
            yield index, torch.cat([inner, rows[:, :-1].flatten(), rows[:, -1]])

    monkeypatch.setattr(generator, "in_batches", rows_of_names)
    naming = Generated.by(generator, evaluation, inputs.scale, contexts, list(Naming), runtime).naming
    assert all(all(naming[name].right or [False]) for name in (Naming.KNOWN, Naming.NEW, Naming.MOVED))
    assert naming[Naming.NONSENSE].right is None


@pytest.fixture
def backbone(experiment: Composed, runtime: Runtime) -> Backbone:
    return load_backbone(experiment().backbone, runtime, 0)


def test_baselines_take_a_known_name_for_its_class(experiment: Composed, backbone: Backbone) -> None:
    names = experiment(*NAMED).dataset.names
    known = KnownNames.of(list(names), names, SplitName.TRAIN)
    chosen = chosen_classes(backbone, list(names), names, known.texts, SentenceEncoder.wordllama)
    for baseline in (Population.NEAREST_EMBEDDING, Population.NEAREST_STATE, Population.NEAREST_SENTENCE):
        by_name = dict(zip(known.texts, known.classes.tolist(), strict=True))
        assert chosen[baseline] == by_name
    assert Population.ASKED not in chosen  # this Llama's output layer is not its embedding


def test_a_wording_is_chosen_by_some_names_of_every_class() -> None:
    known = KnownNames([str(number) for number in range(220)], torch.arange(20).repeat_interleave(11))
    some = known.some(80)
    assert 40 < len(some.texts) <= 80
    assert set(some.classes.tolist()) == set(range(20))
    assert [known.texts.index(text) // 11 for text in some.texts] == some.classes.tolist()
    assert known.some(220).texts == known.texts


def test_a_sentence_encoder_knows_names_that_no_training_reads(experiment: Composed, backbone: Backbone) -> None:
    """The backbone's weights are random here, so only what the encoder brings along can tell names apart."""
    names = experiment(*NAMED).dataset.names
    asked = {f"number {word}": index for index, word in enumerate(WORDS)}
    chosen = chosen_classes(backbone, list(names), names, list(asked), SentenceEncoder.wordllama)
    right = [chosen[Population.NEAREST_SENTENCE][name] == index for name, index in asked.items()]
    assert sum(right) >= 8
    assert Population.NEAREST_SENTENCE not in chosen_classes(backbone, list(names), names, list(asked))
