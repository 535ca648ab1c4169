"""One generator of several tasks: what they share, what a sweep makes of them, what is held out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from neurogen.config import Experiment
from neurogen.errors import UserError
from neurogen.generate import parse, write_networks
from neurogen.generator.folder import load_generator
from neurogen.study.execution import in_order
from neurogen.study.graph import evaluations_of, steps_of
from neurogen.study.pipeline import Tune
from neurogen.training.runtime import Runtime
from tests.conftest import Composed
from tests.generator.test_generator import generator_of

SIZED = "dataset.resize=16"
POINTS = (("target=cnn_small",), ("target=cnn", "target.title=wide CNN"), ("target=lenet",))
FIT = ("zoo.training.batch_size=64", "zoo.training.epochs=3", "classical.training.epochs=3")


def points(experiment: Composed, *overrides: str) -> list[Experiment]:
    return [experiment(SIZED, *FIT, *point, *overrides) for point in POINTS]


def test_points_together_share_both_stages_and_keep_their_own_zoo(experiment: Composed) -> None:
    evaluations = evaluations_of(points(experiment, "tasks=together"))
    assert len({evaluation.tune.key for evaluation in evaluations}) == 1
    assert [task.name for task in evaluations[0].tune.tasks] == ["digits-cnn_small", "digits-cnn", "digits-lenet"]
    steps = in_order(steps_of(points(experiment, "tasks=together")))
    kinds = [step.kind for step in steps]
    assert [kinds.count(kind) for kind in ("reference", "inject", "tune", "evaluate")] == [3, 1, 1, 3]
    alone = evaluations_of(points(experiment))
    assert len({evaluation.tune.key for evaluation in alone}) == 3
    assert [evaluation.zoo for evaluation in alone] == [evaluation.zoo for evaluation in evaluations]


def test_seeds_and_recipes_have_generators_of_their_own(experiment: Composed) -> None:
    experiments = [
        point
        for overrides in (("seed=0",), ("seed=1",), ("recipe.tune.lr=2e-4",))
        for point in points(experiment, "tasks=together", *overrides)
    ]
    assert len({evaluation.tune.key for evaluation in evaluations_of(experiments)}) == 3


def test_what_is_held_out_starts_from_the_generator_of_the_others(experiment: Composed) -> None:
    held = ("tasks=together", "held_out=[digits-cnn]", "recipe.adapt.steps=3")
    small, big, lenet = evaluations_of(points(experiment, *held))
    assert [task.name for task in small.tune.tasks] == ["digits-cnn_small", "digits-lenet"]
    assert lenet.tune == small.tune
    assert isinstance(big.tune.start, Tune)
    assert big.tune.start == small.tune
    assert [task.name for task in big.tune.tasks] == ["digits-cnn"]
    assert big.tune.stage.steps == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("held_out=[digits-cnn]",), "set tasks=together"),
        (("tasks=together", "target@source=cnn"), "is for a generator of one task"),
        (("tasks=together", "generator.drop_data=0.8", "generator.drop_instruction=0.4"), "together at most 1"),
        (("tasks=together", "generator.foreign_data=-0.1"), "must lie between 0 and 1"),
        (("tasks=all",), "allowed: alone, together"),
        (("dataset.relabel=random",), "set generator.context_warmup=1"),
        (("dataset.relabel=random", "generator.drop_data=0.1"), "revealed by the context alone"),
        (("tasks=together", "dataset.relabel=random", "generator.foreign_data=0.1"), "revealed by the context alone"),
        (("dataset.relabel=random", "generator.order=tokens_first"), "revealed by the context alone"),
        (("generator.context_samples=0", "generator.drop_instruction=0.1"), "leaves nothing to read"),
        (("generator.foreign_data=0.1",), "set tasks=together"),
        (("tasks=together", "generator.foreign_data=0.1", "generator.order=tokens_first"), "set generator.order="),
        (("tasks=together", "generator.foreign_data=0.1", "generator.context_samples=0"), "context_samples=4"),
        (("dataset.relabel=always",), "allowed: random"),
        (("dataset.unseen=['9']",), "only a context can say what such a class is called"),
    ],
)
def test_what_makes_no_sense_is_refused(experiment: Composed, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        experiment("recipe.tune.anchor=0", *overrides)


def test_a_task_in_two_forms_and_no_task_at_all_are_refused(experiment: Composed) -> None:
    with pytest.raises(UserError, match=r"the task digits-cnn_small in different forms, in dataset.limit"):
        evaluations_of([experiment("tasks=together", f"dataset.limit={limit}") for limit in (500, 600)])
    with pytest.raises(UserError, match=r"2 points are one and the same, digits-cnn_small, and no other shares"):
        evaluations_of([experiment("tasks=together")] * 2)
    with pytest.raises(UserError, match="leaves no task to learn"):
        evaluations_of([experiment("tasks=together", "held_out=[digits-cnn_small]")])
    with pytest.raises(UserError, match="no other point shares a generator with digits-cnn_small"):
        evaluations_of([experiment("tasks=together")])
    different = [experiment("tasks=together", *point) for point in (("target=cnn", "recipe.inject.lr=0.5"), ())]
    with pytest.raises(
        UserError, match=r"with digits-cnn, since they differ in recipe\.inject\.lr \(0\.5, 0\.\d+\); g"
    ):
        evaluations_of(different)
    with pytest.raises(UserError, match="no other point shares a generator with digits-cnn_small; give several"):
        evaluations_of([experiment("tasks=together", f"seed={seed}") for seed in (0, 1)])
    with pytest.raises(UserError, match=r"held_out names digits_cnn, .* allowed: digits-cnn, digits-cnn_small, "):
        evaluations_of(points(experiment, "tasks=together", "held_out=[digits_cnn]"))


def test_tasks_share_what_is_alike(experiment: Composed, runtime: Runtime) -> None:
    """Of one layout the tokens, of one shape of images the patch embedding; the rest is everybody's."""
    points = [
        experiment(*point)
        for point in ((SIZED,), (SIZED, "dataset=digits", "dataset.name=more"), (), (SIZED, "target=lenet"))
    ]
    generator, _ = generator_of(points[0], runtime, *points[1:2], *points[3:])
    tables = generator.parameter_tokens.tables
    assert tables["digits-cnn_small"] is tables["more-cnn_small"]
    assert tables["digits-cnn_small"] is not tables["digits-lenet"]
    assert generator.patches["digits-cnn_small"] is generator.patches["digits-lenet"]
    assert len([name for name in generator.trainables if name.startswith("parameter_tokens")]) == 2


@pytest.mark.parametrize("tokens", ["free", "composed"])
def test_several_tasks_from_nothing_to_a_table(shared_experiment: Composed, runtime: Runtime, tokens: str) -> None:
    """And one that is held out, before any step and after some; saved, and generated from again."""
    overrides = (
        "tasks=together",
        "held_out=[digits-cnn]",
        f"generator.tokens={tokens}",
        "generator.drop_instruction=0.2",
        "generator.drop_data=0.2",
    )
    adapted = [points(shared_experiment, *overrides, f"recipe.adapt.steps={steps}") for steps in (0, 4)]
    study = steps_of([point for experiments in adapted for point in experiments])
    assert len(study.evaluations) == 4  # what is not held out does not depend on the steps
    for step in in_order(study):
        if step is not study or tokens == "free":  # one table is enough
            step.run(runtime)
    tune = study.evaluations[0].tune
    row = tune.metrics()["history"][-1]
    assert {"validation_accuracy/digits-cnn_small", "validation_accuracy/digits-lenet"} < set(row)
    generator = load_generator(tune.folder, runtime)
    assert list(generator.tasks) == ["digits-cnn_small", "digits-lenet"]
    conditions = study.evaluations[0].metrics()["conditions"]
    assert {"instruction of digits-lenet", "instruction of digits-lenet, no data"} < set(conditions)
    histories = [
        evaluation.tune.metrics()["history"] for evaluation in study.evaluations if evaluation.task.target.name == "cnn"
    ]
    assert [len(history) for history in histories] == [1, 5]
    before, after = histories
    assert before[0]["validation_loss"] == after[0]["validation_loss"]
    assert after[-1]["validation_loss"] < before[0]["validation_loss"]


def test_two_data_sets_for_one_network(shared_experiment: Composed, runtime: Runtime) -> None:
    """Trained with data that contradict the instruction; beside it what following the other instruction gives."""
    fewer = ("dataset.name=fewer", "dataset.title=fewer digits", "dataset.limit=600")
    overrides = ("tasks=together", "generator.foreign_data=0.5", "recipe.inject.steps=6", "recipe.tune.steps=6")
    study = steps_of([shared_experiment(*FIT, *point, *overrides) for point in ((), fewer)])
    for step in in_order(study):
        step.run(runtime)
    first, second = (evaluation.metrics() for evaluation in study.evaluations)
    mean, mean_of_the_other = (
        first["populations"][name] for name in ("zoo_mean_network", "zoo mean network of fewer-cnn_small")
    )
    mean_there = second["populations"]["zoo_mean_network"]
    assert mean_of_the_other["accuracy"] == pytest.approx(mean_there["accuracy"], abs=0.2)  # of the same digits
    assert mean_of_the_other["min_l2"] != mean["min_l2"]  # another network
    assert {"instruction of fewer-cnn_small", "data of fewer", "instruction of fewer-cnn_small, no data"} < set(
        first["conditions"]
    )
    report = next(study.folder.glob("report-digits-*.md")).read_text()
    assert "| zoo mean network of fewer-cnn_small " in report


def test_generate_picks_the_task_that_the_instruction_mentions(
    shared_experiment: Composed, runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiments = points(shared_experiment, "tasks=together", "recipe.inject.steps=1", "recipe.tune.steps=1")
    tune = evaluations_of(experiments)[0].tune
    for step in in_order(tune):
        step.run(runtime)

    def asked(**given: str) -> str:
        capsys.readouterr()
        words = {
            "generator": tune.folder,
            "out": tmp_path / "net.safetensors",
            "device": "cpu",
            "num_threads": 1,
            **given,
        }
        write_networks(parse([f"{key}={value}" for key, value in words.items()]))
        return capsys.readouterr().out.splitlines()[0]

    assert asked(instruction="A lenet for handwritten digits 8x8, please").startswith("task         digits-lenet: ")
    assert asked(instruction="LeNet, now").endswith("the instruction says LeNet")
    assert asked(instruction="a CNN").startswith("task         digits-cnn_small: ")
    assert asked(instruction="a wide CNN").endswith("the instruction says wide CNN")
    assert asked(task="digits-cnn").startswith("task         digits-cnn: ")
    for given, message in (
        ({}, "there is no instruction, and the generator knows digits-cnn_small, digits-cnn, digits-lenet; give task="),
        (
            {"instruction": "a CNN or a wide CNN"},
            "the instruction mentions CNN and wide CNN, and the generator knows digits-cnn_small, digits-cnn;",
        ),
        (
            {"instruction": "a CNN or a LeNet"},
            "the instruction mentions CNN and LeNet, and the generator knows digits-cnn_small, digits-lenet;",
        ),
        ({"instruction": "a CNNs"}, "the instruction mentions none of their networks or data"),
        ({"task": "digits-rnn"}, "allowed: digits-cnn_small, digits-cnn, digits-lenet"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            asked(**given)


def test_composed_tokens_need_nothing_per_token(experiment: Composed, runtime: Runtime) -> None:
    def count(options: str) -> int:
        generator, _ = generator_of(experiment("target=cnn", "generator.tokens=composed", options), runtime)
        return sum(value.numel() for value in generator.parameter_tokens.parameters())

    assert count("target.options.channels=[16,32]") == count("target.options.channels=[64,128]")
    generator, _ = generator_of(experiment("generator.tokens=composed"), runtime)
    tokens = generator.parameter_tokens("digits-cnn_small")
    assert len(torch.unique(tokens, dim=0)) == len(tokens)
    std = generator.backbone.embedding_std
    assert 0.5 * std < float(tokens.detach().std()) < 4 * std
