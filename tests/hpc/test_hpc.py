"""The cluster's side without a cluster: graphs, batches, a site's config, and the same graph as local processes."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from hpc.errors import ClusterError
from hpc.jobs.attempts import attempts_of
from hpc.jobs.cluster import Cluster, cluster_from
from hpc.jobs.graph import Batch, batches, identity, in_order
from hpc.jobs.job import payload_of
from hpc.jobs.launcher import show
from hpc.jobs.points import compose as compose_points
from hpc.jobs.queue import Record, new_record
from hpc.jobs.scheduler import TaskState, indices_of, seconds
from hpc.jobs.study import Study
from hpc.jobs.submission import Submitted, dependencies, script_of, take_out_hopeless
from hpc.ranks.zero import Zero
from neurogen.config import Experiment
from neurogen.errors import Interrupted
from neurogen.run import conf_folder, make_runtime_of
from neurogen.study.graph import steps_of
from tests.conftest import TINY, Program, error_line

Composed = Callable[..., Experiment]


def site(*overrides: str) -> Cluster:
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        return cluster_from(OmegaConf.to_container(compose("config", list(overrides)).cluster))  # type: ignore[arg-type]


def graph(experiment: Composed, *points: str) -> list[Any]:
    return in_order([steps_of([experiment(*point.split()) for point in points])])


def a_study(experiment: Composed, root: Path, *packages: str) -> Study:
    return Study(
        last=steps_of([experiment()]),
        root=root,
        make_runtime=dict,
        interrupted=KeyError,
        refused=ValueError,
        packages=packages,
        configs=("",),
        overrides=((),),
        values=list,
        commit="abc",
        zero=Zero(stage=0, offload=False, whole_below=0, rank_timeout_s=300),
        dry_run=False,
        show_estimates=dict,
        show=dict,
    )


def test_points_that_share_steps_share_them(experiment: Composed) -> None:
    """Three learning rates of stage 2: one zoo, one stage 1, three of the rest, one table."""
    steps = graph(experiment, *(f"recipe.tune.lr={lr}" for lr in ("1e-3", "2e-3", "3e-3")))
    kinds = [step.kind for step in steps]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "reference": 1, "classical": 1, "inject": 1, "tune": 3, "evaluate": 3, "sweeps": 1,
    }  # fmt: skip
    places = {identity(step): place for place, step in enumerate(steps)}
    assert all(places[identity(needed)] < places[identity(step)] for step in steps for needed in step.needs)


def test_networks_of_a_task_are_one_array(experiment: Composed) -> None:
    steps = graph(experiment, "zoo.num_networks=5 zoo.chunk_size=1", "zoo.num_networks=5 zoo.chunk_size=1 seed=1")
    found = batches(steps, max_array=100)
    assert [(batch.kind, len(batch.steps)) for batch in found[:2]] == [("reference", 6), ("inject", 1)]
    assert len(found) == 2 * 4 + 1  # never one per network
    assert [len(batch.steps) for batch in batches(steps, max_array=4) if batch.kind in ("reference", "classical")] == [
        4, 2, 4, 2,
    ]  # fmt: skip
    names = [batch.name for batch in found]
    assert len(set(names)) == len(names)
    assert names == [batch.name for batch in batches(steps, max_array=100)]


def test_dependencies_name_whole_jobs_or_the_tasks_that_are_needed() -> None:
    array = new_record("a", "reference", [(f"s{n}", "", Path("x")) for n in range(3)])
    alone = new_record("b", "inject", [("t", "", Path("x"))])
    array, alone = (
        record.__class__(**{**record.__dict__, "job_id": job}) for record, job in ((array, "7"), (alone, "9"))
    )
    assert dependencies([(array, 0), (array, 1), (array, 2), (alone, 0)], "afterok") == "afterok:7:9"
    assert dependencies([(array, 2), (array, 0)], "afterany") == "afterany:7_0:7_2"
    assert dependencies([], "afterok") is None


def test_what_waits_for_a_job_that_failed_is_not_in_flight() -> None:
    """a failed in job A; b waits for A and c for b, hopelessly. d waits for what is done, e for a job that runs."""

    def record(name: str, *needs: str, after: list[str]) -> Record:
        new = new_record(f"job-{name}", "tune", [(name, "", Path("x"))], after, list(needs))
        return dataclasses.replace(new, job_id=name)

    b, c = record("b", "a", after=["job-a"]), record("c", "b", after=["job-b"])
    d, e = record("d", "z", after=["job-z"]), record("e", "d", after=["job-d"])
    waiting = {one.steps[0]: (one, 0) for one in (b, c, d, e)}
    assert [one.name for one in take_out_hopeless(waiting, {}, {"z"}, set("abcdez"))] == ["job-b", "job-c"]
    assert set(waiting) == {"d", "e"}
    waiting, runs = {"b": (b, 0)}, {"job-b": [TaskState("b", None, "RUNNING", "", 5)]}  # so a is done, just not seen
    assert take_out_hopeless(waiting, runs, set(), {"a", "b"}) == []
    waiting = {"a": (record("a", after=[]), 0), "b": (b, 0)}  # a runs again, in another job than the one b waits for
    waiting["a"] = (dataclasses.replace(waiting["a"][0], name="job-a-again"), 0)
    assert [one.name for one in take_out_hopeless(waiting, {}, set(), set("ab"))] == ["job-b"]


def test_the_code_goes_with_the_sweep(experiment: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by its content, a user's own module with it: what is edited later is another copy."""
    module = tmp_path / "weather_data.py"
    module.write_text("VERSION = 1\n")
    package = tmp_path / "weather_model"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "stations.json").write_text("[1]")
    (package / "weights.bin").write_bytes(bytes(2**20 + 1))
    monkeypatch.syspath_prepend(str(tmp_path))
    study = a_study(experiment, tmp_path, "hpc", "weather_data", "weather_model")
    first = study.snapshot()
    assert (first / "weather_model" / "stations.json").read_text() == "[1]"
    assert (first / "weather_model" / "weights.bin").readlink() == package / "weights.bin"
    assert (first / "weather_data.py").read_text() == "VERSION = 1\n"
    assert (first / "hpc" / "jobs" / "job.py").is_file()
    assert study.snapshot() == first
    module.write_text("VERSION = 2\n")
    assert study.snapshot() != first
    assert (first / "weather_data.py").read_text() == "VERSION = 1\n"
    with pytest.raises(ClusterError, match="nowhere_data cannot be imported here, so no job could"):
        dataclasses.replace(study, packages=("nowhere_data",)).snapshot()


def test_other_code_in_the_queue_is_said(
    experiment: Composed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = a_study(experiment, tmp_path)
    old = new_record("a", "tune", [("tune-1", "", tmp_path)], code="0ld")
    show(study, Submitted(new=(), in_flight={"tune-1": old}, done=(), code="new"))
    assert "some run other code than this submission's: 0ld" in capsys.readouterr().out
    show(study, Submitted(new=(), in_flight={"tune-1": old}, done=(), code="0ld"))
    assert "other code" not in capsys.readouterr().out


def test_a_script_asks_for_what_the_site_says(experiment: Composed, tmp_path: Path) -> None:
    cluster = site(
        "cluster=a100", "cluster.partition=gpu", "cluster.setup=[module load cuda]", "cluster.steps.tune.timeout_min=77"
    )
    (tune,) = (step for step in graph(experiment, "seed=0") if step.kind == "tune")
    text = script_of(Batch((tune,)), "name", tmp_path, cluster, "afterok:5", tmp_path / "code")
    for line in (
        "#SBATCH --partition=gpu",
        "#SBATCH --time=77",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --dependency=afterok:5",
        "#SBATCH --kill-on-invalid-dep=yes",
        "#SBATCH --job-name=name",
        "module load cuda",
        "export OMP_NUM_THREADS=8",
    ):
        assert line in text.splitlines(), text
    assert "kill-on-invalid-dep" not in script_of(Batch((tune,)), "name", tmp_path, cluster, None, tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+cluster.colour=red", "unknown colour; allowed: account"),
        ("+cluster.steps.default.colour=red", "cluster.steps.default: unknown colour"),
        ("cluster.steps.default.mem_gb=0", "cluster.steps.default.mem_gb=0 must be a number, at least 0.01"),
        ("~cluster.steps.default", "cluster.steps has no default"),
        ("cluster.max_array=0", "cluster.max_array=0 must be at least 1"),
    ],
)
def test_a_site_that_makes_no_sense_is_refused(override: str, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        site(override)


def test_points_are_composed_as_hydra_composes_them() -> None:
    """Choices of files once, values set on copies: the same configs as from composing every point by itself."""
    points = [
        ["dataset=digits", "seed=1", "recipe.tune.lr=1e-3"],
        ["dataset=digits", "seed=2", "recipe.tune.lr=2e-3"],
        ["dataset=sst2", "target=rnn", "fit=mlp", "name=a-b", "only=[tune,evaluate]"],
        ["dataset=sst2", "dataset.limit=7", "++dataset.text.max_tokens=9", "cluster=a100", "+cluster.environment.A=b"],
        ["scale=large", "cluster=a100", "~cluster.steps.tune", "backbone.lora={rank: 2}", "recipe=paper", "root='a b'"],
        ["seed=3", "cluster.setup=['module load x','y']", "target.options={}", "dataset.title='${name} of'"],
    ]
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        whole = loader.load_configuration("config", [], RunMode.MULTIRUN)
        found = compose_points(loader, whole, points)
        for point, config in zip(points, found, strict=True):
            alone = loader.load_sweep_config(whole, point)
            expected = OmegaConf.masked_copy(alone, [key for key in alone if key != "hydra"])
            assert OmegaConf.to_container(config) == OmegaConf.to_container(expected), point
        for wrong in ("recipe.tune.nothing=1", "dataset=nothing", "fit@nowhere=mlp"):
            with pytest.raises(HydraException):
                compose_points(loader, whole, [["seed=1"], ["seed=2", wrong]])


@pytest.mark.parametrize(
    ("text", "expected"), [("", [None]), ("3", [3]), ("[0,2-4%2]", [0, 2, 3, 4]), ("[7]", [7]), ("[1-2]", [1, 2])]
)
def test_tasks_that_sacct_names_are_read(text: str, expected: list[int | None]) -> None:
    assert list(indices_of(text)) == expected


def test_attempts_that_other_versions_noted_are_read(tmp_path: Path) -> None:
    (tmp_path / "attempt-0-1.json").write_text(
        '{"started": 1, "ended": 3, "exit_status": 1, "message": "", "node": "n1"}'
    )
    (attempt,) = attempts_of(tmp_path, 0)
    assert attempt.seconds == 2
    assert not attempt.requeued


@pytest.mark.parametrize(("text", "expected"), [("0:07", 7), ("1:02:03", 3723), ("2-00:00:01", 172801), ("INVALID", 0)])
def test_elapsed_times_are_read(text: str, expected: int) -> None:
    assert seconds(text) == expected


def test_a_signal_in_the_first_second_is_heard(experiment: Composed, tmp_path: Path) -> None:
    """While the payload is loaded, and torch with it: it is noted as out of time, not as killed."""
    study = dataclasses.replace(
        a_study(experiment, tmp_path), make_runtime=make_runtime_of(experiment()), interrupted=Interrupted
    )
    payload_of(study, [study.steps[0]], max_requeues=0).write(tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    process = subprocess.Popen([sys.executable, "-m", "hpc", str(tmp_path), "0"], env=environment)
    caught = 0
    while not caught & 1 << signal.SIGUSR2 - 1:
        assert process.poll() is None
        state = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(re.findall(r"SigCgt:\s*(\w+)", state)[0], 16)
    assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()
    process.send_signal(signal.SIGUSR2)
    assert process.wait(timeout=120) == 124
    (attempt,) = attempts_of(tmp_path, 0)
    assert (attempt.exit_status, attempt.message) == (124, "out of time")


def test_a_local_sweep_that_fails_whole_says_so(program: Program, tmp_path: Path) -> None:
    process = program("run", "-m", *TINY, "recipe.tune.lr=1e30", "recipe.tune.clip_norm=1e30")
    assert process.returncode == 1
    assert "is not done" in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr
    (folder,) = (tmp_path / "runs").glob("sweeps/*")
    (row,) = json.loads((folder / "results.json").read_text())
    assert (row["status"], row["generated_mean"]) == ("incomplete", None)


def ctrl_c(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does


@pytest.mark.parametrize("stop", [ctrl_c, subprocess.Popen.terminate])
def test_a_stopped_local_sweep_saves_and_begins_nothing_new(
    tmp_path: Path, stop: Callable[[subprocess.Popen[str]], None]
) -> None:
    command = [sys.executable, "-m", "neurogen.run", "-m", *TINY, "recipe.inject.steps=3000", "seed=0,1"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not list((tmp_path / "runs").glob("inject/*/events*")):
        assert process.poll() is None
        time.sleep(0.01)
    stop(process)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "stopped; the same command continues where this one ended"
    assert "Traceback" not in said
    assert not list((tmp_path / "runs").glob("tune/*"))
    assert list((tmp_path / "runs").glob("inject/*/checkpoints/step-*.safetensors"))


def test_the_same_graph_as_local_processes(program: Program, tmp_path: Path) -> None:
    """Two points that share a zoo; one cannot work, the other is in the table; status and aggregate read it."""
    points = ("recipe.tune.lr=1e-3,1e30", "recipe.tune.clip_norm=1e30")
    process = program("run", *TINY, *points, "-m", COLUMNS="200")
    assert process.returncode == 1
    last = process.stderr.splitlines()[-1]
    assert last.startswith("error: the point ")  # a failure for the caller
    assert "Error executing job" not in process.stderr
    assert "recipe.tune.lr=1e+30" in last
    assert "tune digits-cnn_small-tiny_llama: failed with status 1" in process.stderr
    assert "recipe.tune.lr=0.001" in process.stdout  # the table of what there is
    (folder,) = (tmp_path / "runs").glob("sweeps/*")
    rows = {row["settings"]: row for row in json.loads((folder / "results.json").read_text())}
    assert {settings: (row["status"], row["n_ok"], row["n_expected"]) for settings, row in rows.items()} == {
        "recipe.tune.lr=0.001": ("ok", 2, 2),
        "recipe.tune.lr=1e+30": ("incomplete", 0, 2),
    }
    assert (folder / "comparison.png").stat().st_size > 5000
    assert len(list((tmp_path / "runs").glob("reference/*"))) == 1
    assert r"\begin{tabular}" in (folder / "results.tex").read_text()
    assert list(folder.glob("hparams-*/events*"))

    by_hand = program("aggregate", str(folder))
    assert by_hand.returncode == 3
    assert "1 of 2 evaluations are missing" in by_hand.stderr
    shown = program("status", "--json")
    states = {step["identity"].split("-")[0]: step["state"] for step in json.loads(shown.stdout)["steps"]}
    assert states["reference"] == "done"


def test_a_preview_shows_graph_scripts_and_estimates(program: Program, tmp_path: Path) -> None:
    """The user's command as it stands: the paper's backbones, on A100s. No scheduler and no model is asked."""
    process = program("run", "-m", "dataset=mnist,sst2", "hydra/launcher=slurm", "dry_run=true", PATH=str(tmp_path))
    assert process.returncode == 0, process.stderr
    assert "2 points, 12 steps, 0 of them done; 10 jobs to submit" in process.stdout
    for expected in (
        r"0 +2 +1 +1 +8 +32 +120 +reference mnist-lenet-shared",
        r"9 +1 +everything .*sweeps mnist\+sst2-2-points",
        r"#SBATCH --dependency=afterany:JOB0:JOB1",
        r"#SBATCH --array=0-1%2",
        r"mnist-lenet-qwen2_vl_7b-fast .* A100 80GB",
        r"sst2-mlp-llama3_8b-fast",
        r"all points: [\d.]+ GPU-hours in 4 stages",
    ):
        assert re.search(expected, process.stdout), (expected, process.stdout)
    assert not (tmp_path / "runs" / "queue").exists()


def test_no_sbatch_says_what_to_do(program: Program, tmp_path: Path) -> None:
    process = program("run", "-m", *TINY, "seed=0,1", "hydra/launcher=slurm", PATH=str(tmp_path))
    assert process.returncode == 1
    assert "there is no sbatch on this machine" in process.stderr
    assert "Traceback" not in process.stderr


def test_the_config_of_a_whole_sweep_is_refused_in_one_line(program: Program) -> None:
    process = program("run", "-m", "seed=0,1", "hydra/launcher=slurm", "--cfg", "job")
    assert error_line(process).startswith("error: --cfg shows the config of one point; leave out -m")


def test_planning_300_points_imports_no_torch() -> None:
    modules = "hpc.jobs.launcher, hpc.jobs.status, hpc.jobs.submission, neurogen.study.pipeline"
    program = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_part_of_a_sweep_is_refused_in_one_line(program: Program) -> None:
    process = program("run", "-m", "seed=0,1", "num_parts=2")
    assert error_line(process).startswith("error: only=None part=0 num_parts=2 choose among the steps of a single run")
