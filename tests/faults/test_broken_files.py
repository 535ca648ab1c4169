"""A file of a finished step is truncated, has a byte flipped, is empty, or is another file. The step that reads it
names it in one line, or ends as if nothing had been; never with a traceback or another result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import MARKS, STEPS, Undisturbed, drawn
from tests.faults.interposed import Fault, Server
from tests.faults.jobs import content_of
from tests.faults.test_calls import said_in_one_line

pytestmark = MARKS


def flipped(content: bytes) -> bytes:
    """One bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "flipped": flipped,
    "empty": lambda content: b"",
    "foreign": lambda content: b'{"another": ["program"]}\n',
}


@pytest.mark.parametrize("kind", STEPS[1:])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_or_without_effect(
    undisturbed: Undisturbed, server: Server, tmp_path: Path, kind: str, damage: str
) -> None:
    before = undisturbed.folder / kind
    files = [path for done in sorted(before.glob("*/*/DONE")) for path in sorted(done.parent.rglob("*"))]
    files = [path.relative_to(before) for path in files if path.is_file() and path.stat().st_size]
    words, root = undisturbed.jobs.words(kind), undisturbed.jobs.root
    for index in drawn(range(len(files)), kind, damage):
        undisturbed.restore(kind)
        path = root / files[index]
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
        ended = server.run(words, root, Fault(), tmp_path)
        if ended.status == 0:
            others = {name: value for name, value in undisturbed.content[kind].items() if name != str(files[index])}
            assert others.items() <= content_of(root, left_out=path).items(), path
        else:
            line = said_in_one_line(ended)
            assert str(path) in line or str(path.parent) in line, f"{path}: {line}"
