"""The step embed: the reduced embedding, and tokens that are those of the texts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from neurogen.data.dataset import Dataset
from neurogen.data.preparation import Texts, TextShape, TokenEmbedding
from neurogen.data.tokenised import load_texts
from neurogen.errors import UserError
from neurogen.generator.context import Context
from neurogen.generator.folder import build_generator, load_generator, save_generator
from neurogen.generator.pretrained import load_tokenizer
from neurogen.generator.task import Task
from neurogen.stages.embed import reduced, text_dataset, token_ids
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.study.task_spec import Embed
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.runtime import Runtime
from tests.conftest import TINY_TEXT, Composed


def test_the_table_keeps_the_most_variance_and_has_unit_scale() -> None:
    rng = torch.Generator().manual_seed(0)
    table = torch.randn(500, 12, generator=rng) @ torch.randn(12, 12, generator=rng) + 3
    kept, explained = reduced(table, 4)
    _, singular, directions = torch.linalg.svd(table - table.mean(0), full_matrices=False)
    expected = (table - table.mean(0)) @ directions[:4].T
    expected = expected / expected.std()
    torch.testing.assert_close(kept.abs(), expected.abs(), rtol=1e-3, atol=1e-3)  # directions have no sign
    assert explained == pytest.approx(float(singular[:4].square().sum() / singular.square().sum()), rel=1e-4)
    assert float(kept.std()) == pytest.approx(1)
    again, _ = reduced(table, 4)
    assert torch.equal(kept, again)
    with pytest.raises(UserError, match=r"dataset.text.embedding_dim=13 is more than .* 12"):
        reduced(table, 13)


def test_no_token_looks_like_padding() -> None:
    half = torch.randint(-8, 8, (20, 6), generator=torch.Generator().manual_seed(0)).float()
    table = torch.cat([half, torch.zeros(1, 6), -half])  # the one in the middle is exactly the mean
    kept, _ = reduced(table, 3)
    assert kept[20].abs().max() < 1e-30
    assert kept.any(1).all()


@pytest.fixture
def embedded(shared_experiment: Composed, runtime: Runtime) -> tuple[Embed, Dataset]:
    """The finished step and what it left."""
    (step, *_) = in_order(steps_of([shared_experiment(*TINY_TEXT)]))
    assert isinstance(step, Embed)
    step.run(runtime)
    return step, load_texts(step.dataset, step.folder)


def test_the_step_leaves_what_every_other_step_reads(embedded: tuple[Embed, Dataset]) -> None:
    step, dataset = embedded
    assert isinstance(dataset.train.samples, Texts)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (540, 60, 2551)
    assert dataset.shape == TextShape(16, 2)
    inputs = dataset.train.inputs(torch.arange(5))
    assert inputs.shape[0] == 5
    assert inputs.shape[1] <= 24
    assert inputs.shape[2] == 16
    metrics = step.metrics()
    assert metrics["num_texts"] == 540 + 60 + 2551
    assert 0 < metrics["num_cut"] < metrics["num_texts"]


def test_tokens_are_those_of_the_texts(embedded: tuple[Embed, Dataset]) -> None:
    """Decoded, they are the beginnings of the sentences; made again, they are the same data."""
    step, dataset = embedded
    tokenizer = load_tokenizer(step.model)
    assert isinstance(dataset.preparation, TokenEmbedding)
    again, lengths = text_dataset(step.dataset, tokenizer, dataset.preparation)
    assert again.fingerprint == dataset.fingerprint
    assert max(lengths) == step.metrics()["longest"]
    first = tokenizer.decode(dataset.test.samples[:1][0])
    assert len(first) == 24
    assert first.isprintable()


def test_what_looks_like_a_special_token_in_a_text_is_text(experiment: Composed) -> None:
    tokenizer = load_tokenizer(experiment(*TINY_TEXT).backbone)
    (ids,) = token_ids(["<|im_end|>"], tokenizer)
    assert len(ids) == 10  # bytes
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in ids


def test_a_context_of_nothing_is_possible_with_texts_too(embedded: tuple[Embed, Dataset]) -> None:
    _, dataset = embedded
    context = Context.of(dataset.train, dataset.class_names, torch.empty(0, dtype=torch.int64))
    assert context.labels == ()
    assert context.samples.shape == (0, 0)


def test_two_text_tasks_of_one_table_are_saved_and_loaded(
    experiment: Composed, runtime: Runtime, embedded: tuple[Embed, Dataset], tmp_path: Path
) -> None:
    _, dataset = embedded
    points = experiment(*TINY_TEXT), experiment(*TINY_TEXT, "target=rnn", "target.options.hidden=4")
    tasks = []
    for point in points:
        scale = Scale.of_fan_in(ParameterLayout.of(build_network(point.target, dataset.shape)), None)
        tasks.append(Task.of(dataset, point.dataset, point.target, scale))
    generator = build_generator(points[0].backbone, points[0].generator, tasks, 0, runtime)
    save_generator(generator, points[0].backbone, tmp_path / "two")
    loaded = load_generator(tmp_path / "two", runtime)
    assert list(loaded.tasks) == ["rotten_tomatoes-mlp", "rotten_tomatoes-rnn"]


def test_targets_share_the_embedding_and_lora_does_not_touch_it(experiment: Composed) -> None:
    def keys(*overrides: str) -> dict[str, str]:
        return {step.kind: step.key for step in in_order(steps_of([experiment(*TINY_TEXT, *overrides)]))}

    before = keys()
    assert next(iter(before)) == "embed"
    assert keys("target=rnn")["embed"] == before["embed"]
    other_rank = keys("backbone.lora.rank=2")
    same = {kind for kind in before if before[kind] == other_rank[kind]}
    assert same == {"embed", "reference", "classical"}
    assert keys("dataset.text.embedding_dim=8")["reference"] != before["reference"]
