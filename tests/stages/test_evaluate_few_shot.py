"""Classes that no training has seen, from the zoo's episodes to the tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neurogen.data.dataset import Dataset, load_images
from neurogen.errors import UserError
from neurogen.generator.folder import load_generator
from neurogen.report.cells import cells_of, row_of
from neurogen.report.tables import of_row
from neurogen.rng import rng_of
from neurogen.stages.evaluate_few_shot import SupportSet, evaluate_few_shot, trained_on
from neurogen.stages.evaluate_lists import ListContext, generate_lists
from neurogen.stages.evaluated import Inputs
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.study.pipeline import Aggregate, tasks_read
from neurogen.study.results import Naming
from neurogen.training.runtime import Runtime
from tests.conftest import Composed
from tests.few_shot import MARKS, words_for


@pytest.fixture
def study(shared_experiment: Composed, runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Aggregate:
    folder = tmp_path_factory.getbasetemp().parent / "few_shot"  # the same for all, so that the steps are
    last = steps_of([shared_experiment(*words_for(folder), "evaluate.num_contexts=3")])
    for step in in_order(last):
        step.run(runtime)
    return last


def test_novel_classes_are_told_apart(study: Aggregate) -> None:
    (evaluation,) = study.evaluations
    few, more = evaluation.result().few_shot
    assert (few.shots, more.shots) == (1, 3)
    for result in (few, more):
        every = [result.generated, result.zoo, result.trained, result.mixed_named, result.mixed_novel]
        assert [len(values) for values in every] == [3] * 5
        assert min(result.zoo) > 0.6  # of three marks that anybody tells apart
    assert few.many > 0.8
    ((cell, members),) = cells_of(study).items()
    tables = {table.title: table for table in of_row(row_of(cell, members))}
    assert [line[0] for line in tables["few_shot"].rows] == ["1", "3"]
    assert [line[-1] for line in tables["few_shot"].rows] == ["3", "3"]
    assert (study.folder / "report.html").read_text(encoding="utf-8").count('data-table="few_shot"') == 1


def test_all_samples_are_those_of_the_classes_of_a_context(
    study: Aggregate, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three marks are easier to tell apart than all; what all samples give is as easy as what few give."""
    (evaluation,) = study.evaluations
    inputs = Inputs.of(evaluation, runtime)
    contexts = [ListContext.draw(evaluation, inputs, number) for number in range(2)]
    generator = load_generator(evaluation.tune.folder, runtime)
    (task,) = generator.tasks.values()
    names = [context.names[Naming.KNOWN] for context in contexts]
    networks = [
        task.scale.with_rows(len(listed)).decode(z)
        for listed, z in zip(names, generate_lists(generator, task, names, runtime), strict=True)
    ]
    drawn: list[int] = []

    def draw(novel: Dataset, shots: int, rng: torch.Generator) -> SupportSet:
        every = torch.arange(len(novel.train.labels))
        classes = torch.tensor([2, 0])
        chosen = every[torch.isin(novel.train.labels, classes)]  # all samples of two classes
        places = (novel.train.labels[chosen] == 0).long()
        drawn.append(shots)
        return SupportSet(classes, replace(novel.train.subset(chosen), labels=places))

    monkeypatch.setattr(SupportSet, "draw", draw)
    lists = [context.episode for context in contexts]
    for result in evaluate_few_shot(evaluation, inputs, task, lists, networks, runtime):
        assert result.zoo == pytest.approx([result.many] * 2)
    assert drawn == [1, 1, 3, 3]


def test_a_network_of_the_shown_samples_alone_is_trained_in_training_mode(
    experiment: Composed, runtime: Runtime, tmp_path: Path
) -> None:
    """Its normalisation takes the statistics of these samples."""
    words = [*words_for(tmp_path), "target=resnet8"]
    (evaluation,) = steps_of([experiment(*words)]).evaluations
    assert evaluation.few_shot is not None
    novel = load_images(evaluation.few_shot.task.dataset)
    context = SupportSet.draw(novel, 3, rng_of(0))
    network = trained_on(evaluation.task.target, novel, context, seed=0)
    statistics = [value for name, value in network.state_dict().items() if name.endswith("running_mean")]
    assert statistics
    assert all(float(value.abs().sum()) > 0 for value in statistics)
    assert not network.training


def test_only_the_zoo_and_the_evaluation_read_what_is_shown(study: Aggregate) -> None:
    (evaluation,) = study.evaluations
    (reference,) = evaluation.zoo.references
    assert [task.dataset.name for task in tasks_read(reference)] == ["digits", "glyphs"]
    assert {task.dataset.name for task in tasks_read(evaluation)} == {"digits", "arrays"}
    assert {task.dataset.name for task in tasks_read(evaluation.tune)} == {"digits"}


def test_a_context_shows_so_many_samples_of_each_class(study: Aggregate) -> None:
    (evaluation,) = study.evaluations
    assert evaluation.few_shot is not None
    novel = load_images(evaluation.few_shot.task.dataset)
    context = SupportSet.draw(novel, 2, rng_of(0))
    assert context.samples.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for place, index in enumerate(context.classes.tolist()):
        of_class = novel.train.samples[novel.train.labels == index]
        chosen = context.samples.samples[context.samples.labels == place]
        assert all(any(torch.equal(sample, other) for other in of_class) for sample in chosen)
    with pytest.raises(UserError, match="test_shots=1000 is more than the 36 training samples of"):
        SupportSet.draw(novel, 1000, rng_of(0))


def test_a_zoo_that_is_shown_classes_is_another_zoo(experiment: Composed, tmp_path: Path) -> None:
    words = words_for(tmp_path)
    changed = [*words, "few_shot.episodes.queries=3"], [*words, "few_shot.test_shots=[2]"]
    first, *others = (steps_of([experiment(*each)]).evaluations[0] for each in (words, *changed))
    assert first.zoo.references[0].key != others[0].zoo.references[0].key
    assert first.tune.key == others[1].tune.key
    assert first.key != others[1].key


@pytest.mark.parametrize("names", [("0", *MARKS[1:])])
def test_a_class_that_was_trained_on_is_no_new_one(
    experiment: Composed, runtime: Runtime, tmp_path: Path, names: tuple[str, ...]
) -> None:
    words = words_for(tmp_path / "data", names)
    last = steps_of([experiment(*words, "few_shot.test_shots=[1]", "evaluate.num_contexts=1")])
    *others, evaluation, _ = in_order(last)
    for step in others:
        step.run(runtime)
    with pytest.raises(UserError, match="and 0 of arrays are in digits too; take other data"):
        evaluation.run(runtime)


def test_data_of_another_shape_cannot_be_shown(experiment: Composed, runtime: Runtime, tmp_path: Path) -> None:
    last = steps_of([experiment(*words_for(tmp_path), "few_shot.data.resize=null")])
    (reference,) = last.evaluations[0].zoo.references
    with pytest.raises(UserError, match=r"images are \[1, 8, 8\] and \[1, 28, 28\] .*; set dataset.resize"):
        reference.run(runtime)
