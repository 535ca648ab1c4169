"""Objects are told apart by their content. That every process has the same digest is seen in test_source.py."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from neurogen.api import content


def content_digest(value: object) -> str:
    """With functions and classes by their names."""
    return content.content_digest(value, lambda member: f"{member.__module__}.{member.__qualname__}")


def test_the_content_counts() -> None:
    values = (
        *({"a", "b"}, {"a", "c"}, frozenset({"a", "b"}), {frozenset({"a"}), "b"}, ["a", "b"]),
        *(torch.ones(3), torch.zeros(3), torch.ones(3, 1), torch.ones(3, dtype=torch.int32), torch.tensor(1.0)),
        *(torch.ones(3, dtype=torch.bfloat16), torch.ones(3, requires_grad=True), torch.nn.Parameter(torch.ones(3))),
    )
    assert len({content_digest(SimpleNamespace(value=value)) for value in values}) == len(values)
    assert content_digest(torch.ones(4)[1:]) == content_digest(torch.ones(3))


class Node:
    """Something that a set can hold."""

    around: set[Node]


def test_a_set_may_hold_what_holds_it() -> None:
    node = Node()
    node.around = {node}
    assert content_digest(node) != content_digest(Node())
