"""report.html: one file that a browser shows on a desk and on a phone; and what a notebook gets of a study."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from neurogen.errors import Incomplete
from neurogen.report import formats, html
from neurogen.report.figures import Picture, StudyPictures
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.study.rows import FewShotSummary
from neurogen.training.runtime import runtime_here
from tests.conftest import Composed
from tests.generator.test_lists import NAMED

pytestmark = pytest.mark.xdist_group("html")  # in one process, which makes the reports once

TABLES = ["networks", "conditions", "tensors", "noise", "ensembles"]
PLOTS = ["predictions", "conditioning", "curves", "memorisation", "weights"]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run --hide-scrollbars"
).split()
MEASURE = """
<script>
window.addEventListener("load", () => {
  const all = selector => [...document.querySelectorAll(selector)];
  all("details").forEach(details => details.open = true);
  const boxes = all("main *").filter(element => !element.closest(".scroll"));
  const sizes = all("td, th, p, a").map(element => parseFloat(getComputedStyle(element).fontSize));
  parent.document.body.innerHTML = "<pre>" + JSON.stringify({
    width: innerWidth,
    page: document.documentElement.scrollWidth,
    outside: boxes.filter(element => element.getBoundingClientRect().right > innerWidth).length,
    pictures: all("img").map(image => image.complete ? image.naturalWidth : 0),
    narrow: all("img").filter(image => image.currentSrc !== image.src).length,
    tables: all("table").map(table => table.dataset.table),
    letters: Math.min(...sizes),
    loaded: performance.getEntriesByType("resource").map(entry => entry.name).filter(name => !name.startsWith("data:")),
  }) + "</pre>";
});
</script>
"""


@pytest.fixture(scope="module")
def reports(shared_experiment: Composed) -> dict[str, Path]:
    """Of a run, and of a study with a second row that is not there."""
    runtime = runtime_here("cpu", 1)
    run = steps_of([shared_experiment()])
    for step in in_order(run):
        step.run(runtime)
    study = steps_of([shared_experiment(), shared_experiment("recipe.tune.lr=0.02")])
    with pytest.raises(Incomplete, match="1 of 2 evaluations are missing"):
        study.run(runtime)
    return {"run": run.folder / html.NAME, "study": study.folder / html.NAME}


class Page(HTMLParser):
    """All that a page refers to, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.tags: set[str] = set()
        self.tables: list[str] = []
        self.plots: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attributes:
            if name in ("src", "srcset"):
                self.pictures.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name == "id":
                self.names.add(value or "")
            elif name == "data-table":
                self.tables.append(value or "")
            elif name == "data-plot":
                self.plots.append((value or "").partition("-")[0])


@pytest.mark.parametrize("kind", ["run", "study"])
def test_a_report_needs_nothing_but_itself(reports: dict[str, Path], kind: str) -> None:
    text = reports[kind].read_text(encoding="utf-8")
    page = Page(text)
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert not re.search(r"https?:|url\(|@import", re.sub(r"data:image/png;base64,[\w+/=]+", "", text))
    for picture in page.pictures:
        head, _, data = picture.partition(",")
        assert head == "data:image/png;base64"
        Image.open(io.BytesIO(base64.b64decode(data, validate=True))).verify()
    if kind == "run":
        assert {name for name in page.names if name.startswith("row-")} <= {link[1:] for link in page.links}
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.names, link
        else:
            assert (reports[kind].parent / unquote(link)).exists(), link
    assert page.tables == ["summary", *TABLES, "data", "settings"]
    of_run = [*PLOTS[:3], "learning", *PLOTS[3:]]
    assert page.plots == (of_run if kind == "run" else ["comparison", "learning", *PLOTS])


def test_a_report_says_what_is_missing_and_what_differs(reports: dict[str, Path]) -> None:
    run, study = (reports[kind].read_text(encoding="utf-8") for kind in ("run", "study"))
    assert "<b>Incomplete.</b> 1 evaluation is missing" in study
    assert re.search(r"<li>digits-cnn_small-tiny_llama: not done: tune-\w{12}</li>", study)
    assert '<td class="value">0.02</td>' in study
    assert "Incomplete" not in run
    (row,) = formats.read_rows(reports["run"].parent)
    assert f"{row.generated_mean:.2f} ± {row.generated_std:.2f} %" in run
    assert "recipe.tune.lr" in run  # of one row all settings


@pytest.mark.parametrize("shows_classes", [False, True])
def test_the_contents_lead_to_what_is_there(
    shared_experiment: Composed, monkeypatch: pytest.MonkeyPatch, *, shows_classes: bool
) -> None:
    """Of a run for lists of names, whose page has other sections, and of one with shown classes beside them."""
    runtime, last = runtime_here("cpu", 1), steps_of([shared_experiment(*NAMED, "evaluate.num_contexts=3")])
    for step in in_order(last):
        step.run(runtime)
    (row,) = formats.read_rows(last.folder)
    if shows_classes:
        shown = FewShotSummary(2, 3, 90.0, 80.0, None, 70.0, 10.0, None, 60.0, 80.0, 80.0)
        row = replace(row, few_shot=[shown])
    pages: list[str] = []
    monkeypatch.setattr(html.store, "write_text", lambda path, text: pages.append(text))
    pictures = {name: Picture(name, b"", b"") for name in ("lists", "conditioning", "curves")}
    html.write_report(
        last,
        [row],
        [last.evaluations],
        StudyPictures({"learning": Picture("learning", b"", b"")}, [pictures]),
        [],
        None,
    )
    (page,) = map(Page, pages)
    anchors = {name for name in page.names if name.startswith("row-0-")}
    assert {link[1:] for link in page.links if link.startswith("#row-0")} == anchors
    assert ("row-0-few-shot" in anchors) is shows_classes
    assert {"row-0-names", "row-0-conditions"} < anchors


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium, chromium-browser or google-chrome")
@pytest.mark.parametrize("kind", ["run", "study"])
@pytest.mark.parametrize("width", [1400, 400])
def test_a_browser_shows_it(reports: dict[str, Path], tmp_path: Path, kind: str, width: int) -> None:
    """Every picture, nothing from elsewhere, and no scrolling to the side but in the boxes of tables."""
    page = reports[kind].read_text(encoding="utf-8")
    frame = f'<iframe width="{width}" height="900" style="border: 0" srcdoc="{escape(page + MEASURE)}"></iframe>'
    (tmp_path / "frame.html").write_text(f"<!doctype html><body>{frame}</body>", encoding="utf-8")
    arguments = [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{tmp_path / 'frame.html'}"]
    process = subprocess.run(
        [str(BROWSER), *QUIET, *arguments], capture_output=True, text=True, timeout=300, check=True
    )
    measured = json.loads(unescape(process.stdout.split("<pre>")[1].split("</pre>")[0]))
    num_pictures = len(Page(page).plots)
    assert (measured["width"], measured["page"], measured["outside"]) == (width, width, 0)
    assert len(measured["pictures"]) == num_pictures
    assert min(measured["pictures"]) > 300
    assert measured["narrow"] == (num_pictures if width == 400 else 0)
    assert measured["tables"] == ["summary", *TABLES, "data", "settings"]
    assert measured["letters"] >= 12
    assert measured["loaded"] == []


def test_a_notebook_gets_the_table_and_the_main_plot(reports: dict[str, Path]) -> None:
    for kind, first in (("run", "classical training"), ("study", "digits")):
        folder = reports[kind].parent
        table = html.table_html(formats.read_rows(folder))
        assert table.startswith("<table>")
        assert first in table
        picture = html.main_plot(folder)
        assert picture is not None
        Image.open(io.BytesIO(picture)).verify()
    assert html.main_plot(folder.parent) is None
