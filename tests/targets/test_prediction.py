"""Batches on which networks are judged: prepared once, in an order of their own; the logits in that of the data."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from neurogen.data.dataset import Split
from neurogen.data.preparation import ImageShape, Normalisation, Texts, TextShape, TokenEmbedding
from neurogen.targets import prediction
from neurogen.targets.networks import cnn, mlp, rnn
from neurogen.targets.prediction import Batches, evaluate_network, predict

CPU = torch.device("cpu")


def texts() -> Split:
    """Texts of 1 to 20 tokens, in random order."""
    rng = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 21, (60,), generator=rng).tolist()
    samples = Texts.of([torch.randint(0, 20, (length,), generator=rng).tolist() for length in lengths])
    return Split(samples, torch.randint(0, 3, (60,), generator=rng), TokenEmbedding(torch.randn(20, 6, generator=rng)))


def images() -> Split:
    """Random ones."""
    samples = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Split(samples, torch.arange(60) % 3, Normalisation.of(samples.numpy()))


CASES: dict[str, tuple[Callable[[], Split], Callable[[], nn.Module]]] = {
    "images": (images, lambda: cnn(ImageShape(1, 8, 8, 3), [4])),
    "mlp": (texts, lambda: mlp(TextShape(6, 3), 5)),
    "rnn": (texts, lambda: rnn(TextShape(6, 3), 5)),
}


@pytest.mark.parametrize("case", CASES)
def test_logits_and_figures_are_those_of_the_samples_as_they_stand(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "EVALUATION_BATCH", 16)
    split, network = CASES[case][0](), CASES[case][1]()
    tensors = {name: value.detach() for name, value in network.named_parameters()}
    with torch.no_grad():
        expected = torch.cat([network(split.inputs(torch.tensor([index]))) for index in range(len(split))])
    batches = Batches(split, CPU)
    torch.testing.assert_close(predict(network, tensors, batches), expected)
    loss, accuracy = evaluate_network(network, tensors, batches)
    assert loss == pytest.approx(float(nn.functional.cross_entropy(expected, split.labels)))
    assert accuracy == pytest.approx(float((expected.argmax(1) == split.labels).float().mean()))


@pytest.mark.parametrize("case", CASES)
def test_inputs_are_kept_where_they_fit_and_are_the_same_where_not(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    split, network = CASES[case][0](), CASES[case][1]()
    tensors = {name: value.detach() for name, value in network.named_parameters()}
    kept = Batches(split, CPU)
    assert next(iter(kept)) is next(iter(kept))
    most = 4 * 60 * (64 if case == "images" else 20 * 6)
    monkeypatch.setattr(prediction, "KEPT_BYTES", most)
    assert Batches(split, CPU).kept is not None
    monkeypatch.setattr(prediction, "KEPT_BYTES", most - 1)
    anew = Batches(split, CPU)
    assert anew.kept is None
    assert torch.equal(predict(network, tensors, anew), predict(network, tensors, kept))


def test_texts_of_like_length_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "EVALUATION_BATCH", 20)
    split = texts()
    longest = [inputs.shape[1] for inputs in Batches(split, CPU)]
    lengths = sorted(split.samples.lengths.tolist())  # type: ignore[union-attr]
    assert longest == [lengths[19], lengths[39], lengths[59]]
