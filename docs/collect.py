"""Puts the tables and plots of finished studies into docs/results.md.

    python docs/collect.py [ROOT]        (default: runs)

In the page, `<!-- STUDY/FILE.md -->` and everything down to `<!-- end -->` becomes that file of the study's folder,
ROOT/sweeps/STUDY-…; a picture `results/STUDY-FILE.png` is copied from there. What is not there stays as it is.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

PAGE = Path(__file__).parent / "results.md"


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "runs")
    text = re.sub(
        r"<!-- (\S+)/(\S+\.md) -->\n.*?<!-- end -->", lambda block: table(root, block), PAGE.read_text(), flags=re.S
    )
    for study, name in re.findall(r"\(results/([a-z0-9_]+)-(.+?)\.png\)", text):
        picture = newest(root, study, f"{name}.png")
        if picture is not None:
            target = PAGE.parent / "results" / f"{study}-{name}.png"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(picture, target)
            print(f"{picture} → {target}")
    PAGE.write_text(text)


def table(root: Path, block: re.Match[str]) -> str:
    study, name = block.groups()
    path = newest(root, study, name)
    if path is None:
        print(f"{root}/sweeps/{study}-*/{name} is not there; left as it was")
        return block.group()
    print(f"{path} → {PAGE}")
    body = re.sub(r"^# .*\n+", "", path.read_text())
    return f"<!-- {study}/{name} -->\n{body}<!-- end -->"


def newest(root: Path, study: str, name: str) -> Path | None:
    found = sorted(root.glob(f"sweeps/{study}-*/{name}"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


if __name__ == "__main__":
    main()
