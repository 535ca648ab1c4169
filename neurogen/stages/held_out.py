"""What training never draws: a fifth of all orders of the classes, and of all sets of them, chosen by a hash.

in:  the classes of the data in an order, or a set of them sorted
out: whether only evaluation may draw it
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

MIN_CLASSES = 4  # of the data; fewer have too few orders and sets, and none is held out


def is_held_out(classes: Iterable[int]) -> bool:
    """The order counts: sort the classes where a set is meant."""
    return hashlib.sha256(repr(list(classes)).encode()).digest()[0] % 5 == 0
