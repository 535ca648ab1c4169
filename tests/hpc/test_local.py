"""The graph of a sweep as processes of this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc.jobs.attempts import Attempt
from hpc.jobs.local import Devices, Processes, visible_gpus
from hpc.jobs.local_run import state_of
from hpc.jobs.status import Overview
from tests.conftest import PLANTED, TINY, files_with_secrets

pytestmark = pytest.mark.xdist_group("local")  # one worker, since its tests share a sweep
POINTS = ("recipe.tune.lr=1e-3,1e30", "recipe.tune.clip_norm=1e30")


def start(module: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`python -m neurogen.MODULE` in this folder, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", f"neurogen.{module}", *arguments],
        cwd=folder,
        env=os.environ | {"COLUMNS": "200"} | PLANTED,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(module: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    process = start(module, folder, *arguments)
    output, errors = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder of a sweep of two points that share a zoo, of which one cannot work; and its finished command."""
    folder = tmp_path_factory.mktemp("swept")
    return folder, run("run", folder, *TINY, *POINTS, "-m")


def test_status_knows_what_a_local_sweep_has_done(swept: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = swept
    process = run("status", folder, "--failed")
    assert process.returncode == 0, process.stderr
    assert "the loss is" in process.stdout
    assert "nothing has failed" not in process.stdout
    (overview,) = (Overview.of(path) for path in (folder / "runs" / "sweeps").iterdir())
    states = {(step.kind, str(step.state)) for step in overview.steps}
    assert states >= {("reference", "done"), ("tune", "failed"), ("tune", "done"), ("evaluate", "missing")}


@pytest.mark.parametrize(
    ("exit_status", "age_s", "expected", "reason"),
    [
        (None, 0, "running", "a process of one machine, sign of life 0 s ago"),
        (None, 3600, "failed", "its process has ended without a word, 60 min ago"),
        (1, 0, "failed", "the reason"),
        (130, 0, "missing", "the reason"),
    ],
)
def test_the_newest_attempt_of_a_local_step_counts(
    exit_status: int | None, age_s: float, expected: str, reason: str
) -> None:
    now = time.time()
    earlier, last = Attempt(now - age_s, now, 1, "x"), Attempt(now - age_s, now - age_s, exit_status, "the reason")
    state, said = state_of([earlier, last])
    assert (str(state), said) == (expected, reason)


def test_no_file_has_a_secret_of_the_environment(swept: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Configs, manifests, payloads, logs, environment.json, TensorBoard's events, tables and report."""
    folder, process = swept
    for pattern in (
        "queue/*/payload.json",
        "queue/*/*.log",
        "*/*/environment.json",
        "*/*/events.*",
        "sweeps/*/report.html",
    ):
        assert list((folder / "runs").glob(pattern)), pattern
    assert not files_with_secrets(folder)
    assert not [value for value in PLANTED.values() if value in process.stdout + process.stderr]


def with_steps_of(other: Path, folder: Path, *kinds: str) -> None:
    """Take over what another sweep has done."""
    for kind in kinds:
        shutil.copytree(other / "runs" / kind, folder / "runs" / kind)


def test_the_same_graph_as_local_processes(swept: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """A point that cannot work is named, and the other is in the table."""
    folder, process = swept
    assert process.returncode == 1
    last = process.stderr.splitlines()[-1]
    assert last.startswith("error: the point ")  # a failure for the caller
    assert "Error executing job" not in process.stderr
    assert "recipe.tune.lr=1e+30" in last
    assert "tune digits-cnn_small-tiny_llama: failed with status 1" in process.stderr
    assert "recipe.tune.lr=0.001" in process.stdout  # the table of what there is
    (sweep,) = (folder / "runs").glob("sweeps/*")
    rows = {row["settings"]: row for row in json.loads((sweep / "results.json").read_text())}
    assert {settings: (row["status"], row["n_ok"], row["n_expected"]) for settings, row in rows.items()} == {
        "recipe.tune.lr=0.001": ("ok", 2, 2),
        "recipe.tune.lr=1e+30": ("incomplete", 0, 2),
    }
    assert (sweep / "comparison.png").stat().st_size > 5000
    assert len(list((folder / "runs").glob("reference/*"))) == 1
    assert r"\begin{tabular}" in (sweep / "results.tex").read_text()
    assert list(sweep.glob("hparams-*/events*"))


def test_status_and_aggregate_read_a_local_sweep(swept: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = swept
    (sweep,) = (folder / "runs").glob("sweeps/*")
    by_hand = run("aggregate", folder, str(sweep))
    assert by_hand.returncode == 3
    assert "1 of 2 evaluations are missing" in by_hand.stderr
    assert "time of all steps" in by_hand.stdout
    assert 'id="costs"' in (sweep / "report.html").read_text(encoding="utf-8")
    costs = {kind["kind"]: kind for kind in json.loads((sweep / "costs.json").read_text())["kinds"]}
    assert (costs["tune"]["num_steps"], costs["tune"]["num_done"], costs["tune"]["num_like"]) == (2, 1, 1)
    listed = run("status", folder, "--json")
    states = {step["identity"].split("-")[0]: step["state"] for step in json.loads(listed.stdout)["steps"]}
    assert states["reference"] == "done"


@pytest.mark.parametrize(
    ("given", "names"), [({"CUDA_VISIBLE_DEVICES": "2,GPU-5"}, ["2", "GPU-5"]), ({"CUDA_VISIBLE_DEVICES": ""}, [])]
)
def test_gpus_that_are_visible_already_are_the_ones_to_use(given: dict[str, str], names: list[str]) -> None:
    assert visible_gpus(given) == names


@pytest.mark.parametrize(("names", "expected"), [(["3", "7"], ["3", "7", "7"]), (["3"], ["", "", ""]), ([], [""] * 3)])
def test_a_process_sees_the_gpu_with_the_fewest_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], expected: list[str]
) -> None:
    """Two at a time; the third begins when the second has ended."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    show = [sys.executable, "-c", "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES', ''))"]
    devices = Devices(names)
    processes = Processes({}, devices)
    with (tmp_path / "log").open("wb") as log, devices.least_busy() as first:
        for _ in range(2):
            processes.run(show, log)
    seen = (tmp_path / "log").read_text(encoding="utf-8").split("\n")[:2]
    assert [first.get("CUDA_VISIBLE_DEVICES", ""), *seen] == expected
    assert set(devices.running.values()) <= {0}


def test_a_local_sweep_that_fails_whole_says_so(
    swept: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    with_steps_of(swept[0], tmp_path, "reference", "classical", "inject")
    process = run("run", tmp_path, "-m", *TINY, "recipe.tune.lr=1e30", "recipe.tune.clip_norm=1e30")
    assert process.returncode == 1
    assert "is not done" in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr
    (folder,) = (tmp_path / "runs").glob("sweeps/*")
    (row,) = json.loads((folder / "results.json").read_text())
    assert (row["status"], row["generated_mean"]) == ("incomplete", None)


def test_the_same_command_twice_at_a_time_does_every_step_once(
    swept: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """The second begins when a step of the first is done."""
    with_steps_of(swept[0], tmp_path, "reference", "classical")
    first = start("run", tmp_path, "-m", *TINY)
    while not list((tmp_path / "runs").glob("inject/*/DONE")):
        assert first.poll() is None
        time.sleep(0.01)
    second = run("run", tmp_path, "-m", *TINY)
    _, errors = first.communicate(timeout=600)
    assert (first.returncode, second.returncode) == (0, 0), errors + second.stderr
    assert "failed" not in errors + second.stderr


def ctrl_c(process: subprocess.Popen[str]) -> None:
    """As a terminal does, to all its processes."""
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.parametrize("stop", [ctrl_c, subprocess.Popen.terminate])
def test_a_stopped_local_sweep_saves_and_begins_nothing_new(
    swept: tuple[Path, subprocess.CompletedProcess[str]],
    tmp_path: Path,
    stop: Callable[[subprocess.Popen[str]], None],
) -> None:
    with_steps_of(swept[0], tmp_path, "reference", "classical")
    process = start("run", tmp_path, "-m", *TINY, "recipe.inject.steps=3000", "seed=0,1")
    while not list((tmp_path / "runs").glob("inject/*/events*")):
        assert process.poll() is None
        time.sleep(0.01)
    stop(process)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "stopped; the same command continues where this one ended"
    assert "Traceback" not in errors
    assert not list((tmp_path / "runs").glob("tune/*"))
    assert list((tmp_path / "runs").glob("inject/*/checkpoints/step-*.safetensors"))
