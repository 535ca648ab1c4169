"""What is held out is part of every result, so it may never change."""

from __future__ import annotations

import itertools

from neurogen.stages.held_out import is_held_out


def test_the_same_sets_and_orders_are_held_out_for_ever() -> None:
    sets = [classes for classes in itertools.combinations(range(6), 3) if is_held_out(classes)]
    assert sets == [(0, 1, 4), (0, 1, 5), (0, 2, 3), (0, 2, 4)]
    orders = ["".join(map(str, order)) for order in itertools.permutations(range(4)) if is_held_out(order)]
    assert orders == ["0213", "0312", "1032", "1230", "1302", "2013", "2310", "3012"]
