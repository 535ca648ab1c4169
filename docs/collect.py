"""Copy the tables and plots of finished studies into the pages of docs.

    python docs/collect.py [ROOT]        (default: runs)

in:  the folders of studies, ROOT/sweeps/STUDY-…
out: in every page, what stands between `<!-- STUDY/FILE.md -->` and `<!-- end -->` is replaced by that file of the
     study; a picture `results/STUDY-FILE.png` is replaced by the study's FILE.png. What a study lacks stays as it is.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).parent


def main() -> None:
    """Bring the pages up to date with the studies under ROOT."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "runs")
    for page in sorted(DOCS.glob("*.md")):
        text = re.sub(
            r"<!-- (\S+)/(\S+\.md) -->\n.*?<!-- end -->",
            lambda block: table(root, block),
            page.read_text(encoding="utf-8"),
            flags=re.S,
        )
        for study, name in re.findall(r"\(results/([a-z0-9_]+)-(.+?)\.png\)", text):
            picture = newest(root, study, f"{name}.png")
            if picture is not None:
                target = DOCS / "results" / f"{study}-{name}.png"
                shutil.copy(picture, target)
                print(f"{picture} → {target}")
        page.write_text(text, encoding="utf-8")


def table(root: Path, block: re.Match[str]) -> str:
    """The block with the file of the newest such study in it; its headings stand below those of the page."""
    study, name = block.groups()
    path = newest(root, study, name)
    if path is None:
        print(f"{root}/sweeps/{study}-*/{name} is not there; left as it was")
        return block.group()
    print(f"{path} → {DOCS}")
    body = re.sub(r"^# .*\n+", "", path.read_text(encoding="utf-8"))
    body = re.sub(r"^## ", "### ", body, flags=re.M)
    return f"<!-- {study}/{name} -->\n{body}<!-- end -->"


def newest(root: Path, study: str, name: str) -> Path | None:
    """This file of the study that was aggregated last; None where there is none."""
    return max(root.glob(f"sweeps/{study}-*/{name}"), key=lambda path: path.stat().st_mtime, default=None)


if __name__ == "__main__":
    main()
