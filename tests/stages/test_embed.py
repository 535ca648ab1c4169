"""Texts as targets read them: the reduced embedding, padding that changes nothing, the two text targets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from neurogen.config import Experiment
from neurogen.data.dataset import Dataset
from neurogen.data.preparation import PADDING, Texts, TextShape, TokenEmbedding
from neurogen.data.tokenised import load_texts
from neurogen.errors import UserError
from neurogen.generator.context import Context
from neurogen.generator.folder import build_generator, load_generator, save_generator
from neurogen.generator.pretrained import load_tokenizer
from neurogen.generator.task import Task
from neurogen.stages.embed import reduced, text_dataset, token_ids
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.study.pipeline import Embed
from neurogen.targets.networks import build_network, mlp, rnn
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.runtime import Runtime
from tests.conftest import TINY_TEXT

Composed = Callable[..., Experiment]


def test_the_table_keeps_the_most_variance_and_has_unit_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(500, 12, generator=generator) @ torch.randn(12, 12, generator=generator) + 3
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


def test_texts_are_padded_to_the_longest_that_is_asked_for() -> None:
    texts = Texts.of([[1, 2, 3], [4], [5, 6]])
    assert len(texts) == 3
    assert texts[torch.tensor([1, 2])].tolist() == [[4, PADDING], [5, 6]]
    assert texts[:].tolist() == [[1, 2, 3], [4, PADDING, PADDING], [5, 6, PADDING]]


@pytest.mark.parametrize("build", [mlp, rnn])
def test_padding_and_neighbours_change_nothing(build: Callable[[TextShape, int], nn.Module]) -> None:
    """A text alone and the same text beside a longer one: the same logits."""
    embedding = TokenEmbedding(torch.randn(20, 6, generator=torch.Generator().manual_seed(0)))
    texts = Texts.of([[3, 1, 4], [1, 5, 9, 2, 6, 5, 3], [8]])
    network = build(TextShape(6, 4), 5)
    together = network(embedding(texts[:]))
    alone = torch.cat([network(embedding(texts[torch.tensor([index])])) for index in range(3)])
    torch.testing.assert_close(together, alone)


def test_the_mlp_means_over_tokens_and_the_rnn_ends_at_the_last_one() -> None:
    x = torch.randn(1, 3, 6)
    padded = torch.cat([x, torch.zeros(1, 4, 6)], 1)
    bag = mlp(TextShape(6, 2), 5)
    hidden, output = (module for module in bag.children() if isinstance(module, nn.Linear))
    torch.testing.assert_close(bag(padded), output(torch.relu(hidden(x.mean(1)))))
    chain = rnn(TextShape(6, 2), 5)
    weights = dict(chain.recurrent.named_parameters())  # type: ignore[union-attr,operator]
    state = torch.zeros(5)
    for token in x[0]:
        state = torch.tanh(
            weights["weight_ih"] @ token + weights["bias_ih"] + weights["weight_hh"] @ state + weights["bias_hh"]
        )
    torch.testing.assert_close(chain(padded)[0], chain.output(state))  # type: ignore[operator]


@pytest.mark.parametrize("build", [mlp, rnn])
def test_a_hidden_layer_of_nothing_is_refused(build: Callable[[TextShape, int], nn.Module]) -> None:
    with pytest.raises(UserError, match=r"target.options.hidden=0"):
        build(TextShape(6, 2), 0)


@pytest.fixture
def embedded(experiment: Composed, runtime: Runtime) -> tuple[Embed, Dataset]:
    (step, *_) = in_order(steps_of([experiment(*TINY_TEXT)]))
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
    """Read back as text they are the beginnings of the sentences; and made again, they are the same data."""
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
    one, other = experiment(*TINY_TEXT), experiment(*TINY_TEXT, "target=rnn", "target.options.hidden=4")
    tasks = []
    for each in (one, other):
        scale = Scale.of_fan_in(ParameterLayout.of(build_network(each.target, dataset.shape)), None)
        tasks.append(Task.of(dataset, each.dataset, each.target, scale))
    save_generator(build_generator(one.backbone, one.generator, tasks, 0, runtime), one.backbone, tmp_path / "two")
    loaded = load_generator(tmp_path / "two", runtime)
    assert list(loaded.tasks) == ["rotten_tomatoes-mlp", "rotten_tomatoes-rnn"]


def test_a_broken_file_is_named(embedded: tuple[Embed, Dataset]) -> None:
    step, _ = embedded
    file: Path = step.folder / "texts.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"texts.safetensors is missing or broken"):
        load_texts(step.dataset, step.folder)


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
