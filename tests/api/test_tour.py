"""docs/tour.md runs from top to bottom, in a folder and a process of its own, and prints what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

TOUR = Path(__file__).parents[2] / "docs" / "tour.md"
MARK = "-- end of a block --\n"


def test_the_tour_runs_and_prints_what_it_shows(tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", TOUR.read_text(encoding="utf-8"), re.M | re.S
    )
    assert len(blocks) == TOUR.read_text(encoding="utf-8").count("```python")
    script = "".join(f"{code}print({MARK!r}, end='')\n" for code, _ in blocks)
    (tmp_path / "tour.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "tour.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(TOUR.parents[1]), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    printed = done.stdout.split(MARK)
    for (code, expected), output in zip(blocks, printed, strict=False):
        assert output == expected, f"{code}\n{done.stderr}"
    assert done.returncode == 0, done.stderr
