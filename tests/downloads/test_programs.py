"""The commands that fetch: before a run, by themselves, interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import TINY, TINY_TEXT, Program, error_line, folders
from tests.outside import Web, language_model, outside, published, text_dataset

MODEL = ["backbone=causal_lm", "backbone.model=lab/tiny", "backbone.lora.rank=4"]


def test_a_run_fetches_first_and_notes_the_revisions(web: Web, new_program: Program, tmp_path: Path) -> None:
    web.hub |= {"lab/tiny": language_model(), "datasets/lab/reviews": text_dataset()}
    words = [*TINY_TEXT, "dataset=sst2", "dataset.path=lab/reviews", "dataset.limit=null", *MODEL]
    environment = outside(web, tmp_path / "outside")
    process = new_program("run", *words, **environment)
    assert process.returncode == 0, process.stderr
    first = process.stdout.partition("[1/")[0]
    assert f"kB → {tmp_path / 'outside' / 'hf' / 'hub'} (HF_HOME)" in first
    assert "  fetch  dataset lab/reviews: " in first
    assert "  fetch  backbone lab/tiny: " in first
    assert "  fetching: " in process.stderr
    commits = {"lab/tiny": web.commit_of("lab/tiny"), "lab/reviews": web.commit_of("datasets/lab/reviews")}
    steps = folders(tmp_path / "runs")
    for kind, read in (("embed", {*commits}), ("tune", {"lab/tiny"}), ("evaluate", {"lab/tiny"}), ("reference", set())):
        noted = json.loads((steps[kind] / "environment.json").read_text(encoding="utf-8"))["revisions"]
        assert noted == {name: commits[name] for name in read}
    table = (steps["sweeps"] / "results.md").read_text(encoding="utf-8")
    for name, commit in commits.items():
        assert f"{name} {commit[:12]}" in table
    before = web.requests.copy()
    again = new_program("__main__", "fetch", *words, "seed=1", **environment)
    assert again.stdout.splitlines()[0].startswith("  here   backbone lab/tiny in ")  # the texts are embedded
    assert web.requests == before


def test_fetching_can_be_interrupted_and_goes_on(web: Web, tmp_path: Path) -> None:
    images = published()
    web.files |= images.files
    web.complete.clear()
    environment = outside(web, tmp_path / "outside", images)
    words = ["fetch", *TINY, "dataset=svhn", f"dataset.path={tmp_path}"]
    part = tmp_path / "train_32x32.mat.part"

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "neurogen", *words],
            env=os.environ | environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a shell lets what it starts in the background, and so these tests, ignore the signal
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    with start() as process:
        while process.poll() is None and not (part.exists() and part.stat().st_size):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1] == "stopped; the same command continues where this one ended"
    assert "Traceback" not in stderr
    begun = part.stat().st_size
    assert begun > 0
    web.complete.set()
    with start() as process:
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert web.requests[f"GET /svhn/train_32x32.mat from {begun}"] == 1
    assert (tmp_path / "train_32x32.mat").read_bytes() == images.files["/svhn/train_32x32.mat"]


def test_fetching_without_fetching_is_refused(program: Program) -> None:
    line = error_line(program("run", *TINY, "fetch=false", "stop_after=fetch"))
    assert "fetch=false leaves out what `neurogen fetch` does" in line
