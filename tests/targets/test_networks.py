"""The text targets: what padding must not change, and what their layers compute."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from neurogen.data.preparation import Texts, TextShape, TokenEmbedding
from neurogen.errors import UserError
from neurogen.targets.networks import mlp, rnn


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
