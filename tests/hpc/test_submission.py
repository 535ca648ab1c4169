"""What of a sweep is submitted."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hpc.errors import ClusterError, Unanswered
from hpc.jobs.graph import identity
from hpc.jobs.queue import Queue, new_record
from hpc.jobs.submission import missing_steps, submit
from hpc.jobs.sweep import Sweep
from tests.hpc.answers import USER, PlainStep, Scheduler, Trouble
from tests.hpc.conftest import Composed, graph, site, sweep_to

GROUP = 65534  # of two accounts that share a root


@contextmanager
def account(number: int) -> Iterator[None]:
    """Inside, this process has the rights of another account, in the group that shares the root."""
    umask = os.umask(0o002)
    os.setegid(GROUP)
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.umask(umask)


@pytest.mark.parametrize(
    ("present", "tried", "expected"),
    [
        ([], [], ["reference", "classical", "inject", "tune", "evaluate"]),
        (["reference", "inject"], [], ["classical", "tune", "evaluate"]),
        (["reference"], ["reference", "inject"], ["classical"]),  # what needs inject is not tried without it
        (["reference", "inject"], ["reference", "inject"], ["classical", "tune", "evaluate"]),
        ([], ["classical"], ["reference", "inject", "tune"]),
    ],
)
def test_what_was_tried_in_vain_is_left_with_all_that_needs_it(
    experiment: Composed, present: list[str], tried: list[str], expected: list[str]
) -> None:
    *steps, _ = graph(experiment, "seed=0")
    names = {step.kind: identity(step) for step in steps}
    missing = missing_steps(steps, [names[kind] for kind in present], [names[kind] for kind in tried])
    assert sorted(step.kind for step in missing) == sorted(expected)


def plain_sweep(root: Path) -> Sweep:
    """Two steps that do nothing, the second after the first."""
    first = PlainStep(root, "0" * 12, "a", None, ())
    sweep = sweep_to(PlainStep(root, "f" * 12, "last", None, (first,)), root, "hpc.errors")
    return replace(sweep, program="tests.hpc.answers", libraries=())


def test_a_record_says_whose_jobs_the_controller_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, calls = Scheduler(Queue(tmp_path)), list[list[str]]()

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        calls.append(command)
        return scheduler.run(command, **options)

    sweep = plain_sweep(tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(shutil, "which", lambda name, *_, **__: name)
    submit(sweep, site())
    assert [record.user for record in Queue(tmp_path).records()] == [USER, USER]
    calls.clear()
    assert len(submit(sweep, site()).in_flight) == 2
    assert [command[-1] for command in calls if command[0] == "squeue"] == [f"--user={USER}"]


@pytest.mark.parametrize("exclude", ["", "cluster.exclude=n9"])
def test_nodes_that_failed_are_not_left_out_where_no_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], exclude: str
) -> None:
    """A partition may consist of them, or a job need all of its nodes. What the user leaves out stays left out."""
    scheduler, scripts = Scheduler(Queue(tmp_path)), list[str]()

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        if command[0] == "sbatch":
            given = options["input"]
            assert isinstance(given, bytes)
            scripts.append(given.decode())
            if "n1" in excluded(scripts[-1]):
                refusal = b"Batch job submission failed: Requested node configuration is not available"
                return subprocess.CompletedProcess(command, 1, b"", refusal)
        return scheduler.run(command, **options)

    def excluded(script: str) -> str:
        return "".join(row for row in script.splitlines() if row.startswith("#SBATCH --exclude"))

    sweep = plain_sweep(tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(shutil, "which", lambda name, *_, **__: name)
    words = [exclude] if exclude else []
    submit(sweep, site(*words))
    scheduler.jobs[0].states = ["NODE_FAIL"]
    scripts.clear()
    assert len(submit(sweep, site(*words)).new) == 2
    assert ["n1" in excluded(script) for script in scripts] == [True, False, True, False]
    assert ["n9" in excluded(script) for script in scripts] == [bool(exclude)] * 4
    assert "node configuration is not available; so a jobs may take n1, which failed" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "queue").glob("ng-*")} == {
        record.name for record in Queue(tmp_path).records()
    }


def speak_to(clusters: dict[str, Scheduler], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands speak to the one that SLURM_CLUSTERS names."""

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        environment = options["env"]
        assert isinstance(environment, dict)
        return clusters[environment.get("SLURM_CLUSTERS", "")].run(command, **options)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(shutil, "which", lambda name, *_, **__: name)


def test_what_waits_on_another_cluster_is_not_submitted_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """squeue lists the jobs of the cluster that SLURM_CLUSTERS names. What has ended there may be tried here."""
    clusters = {name: Scheduler(Queue(tmp_path)) for name in ("", "b")}

    def end(name: str) -> None:
        for job in clusters[name].jobs:
            job.states = ["CANCELLED"]

    sweep = plain_sweep(tmp_path)
    speak_to(clusters, monkeypatch)
    monkeypatch.setenv("SLURM_CLUSTERS", "b")
    assert len(submit(sweep, site()).new) == 2
    monkeypatch.delenv("SLURM_CLUSTERS")
    with pytest.raises(
        ClusterError, match=r"waits or runs on b, .*SLURM_CLUSTERS='' .*; set SLURM_CLUSTERS=b to go on"
    ):
        submit(sweep, site())
    end("b")
    assert len(submit(sweep, site()).new) == 2
    monkeypatch.setenv("SLURM_CLUSTERS", "b")
    with pytest.raises(ClusterError, match=r"on the cluster of this machine, .*; unset SLURM_CLUSTERS to go on there"):
        submit(sweep, site())
    end("")
    assert len(submit(sweep, site()).new) == 2


def test_an_intent_of_another_cluster_stays_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission to it was interrupted. Only it knows whether it has taken the job."""
    clusters = {name: Scheduler(Queue(tmp_path)) for name in ("", "b")}
    clusters["b"].troubles = [Trouble.LOST] * 20  # the job is taken, and no answer comes

    sweep = plain_sweep(tmp_path)
    speak_to(clusters, monkeypatch)
    monkeypatch.setenv("NEUROGEN_POLL_S", "0.001")
    monkeypatch.setenv("SLURM_CLUSTERS", "b")
    with pytest.raises(Unanswered):
        submit(sweep, site())
    clusters["b"].troubles = []
    monkeypatch.delenv("SLURM_CLUSTERS")
    with pytest.raises(ClusterError, match="waits or runs on b, "):
        submit(sweep, site())
    assert [record.job_id for record in Queue(tmp_path).records()] == [None]
    monkeypatch.setenv("SLURM_CLUSTERS", "b")
    assert len(submit(sweep, site()).in_flight) == 1


def test_a_cluster_may_have_a_name_now_and_none_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler(Queue(tmp_path))
    speak_to({"": scheduler, "alpha": scheduler}, monkeypatch)
    assert len(submit(plain_sweep(tmp_path), site()).new) == 2
    monkeypatch.setenv("SLURM_CLUSTERS", "alpha")
    assert len(submit(plain_sweep(tmp_path), site()).in_flight) == 2


def test_a_cluster_that_is_gone_is_named_with_what_to_delete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clusters = {name: Scheduler(Queue(tmp_path)) for name in ("", "old")}
    speak_to(clusters, monkeypatch)
    monkeypatch.setenv("SLURM_CLUSTERS", "old")
    names = [record.name for record in submit(plain_sweep(tmp_path), site()).new]
    monkeypatch.delenv("SLURM_CLUSTERS")
    clusters["old"].troubles = [Trouble.FOREIGN] * 2
    with pytest.raises(ClusterError, match=f"the cluster 'old', .*; if it is gone, delete .*: {', '.join(names)}"):
        submit(plain_sweep(tmp_path), site())


def test_a_submission_is_younger_than_what_an_interrupted_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of it stays where it is another account's, or of another cluster."""
    queue = Queue(tmp_path)
    intent = new_record("ng-of-others", "a", [("a-" + "1" * 12, "", tmp_path)], submission=3)
    queue.write(replace(intent, cluster="b"))
    speak_to({"": Scheduler(queue), "b": Scheduler(queue)}, monkeypatch)
    assert {record.submission for record in submit(plain_sweep(tmp_path), site()).new} == {4}


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A root that two accounts share, as docs/cluster.md says how, where SLURM is made up."""
    speak_to({"": Scheduler(Queue(tmp_path))}, monkeypatch)
    submit(plain_sweep(tmp_path), site())  # imports what an account could not read below /root
    root = Path(tempfile.mkdtemp())
    (root / "queue").mkdir()
    for folder in (root, root / "queue"):
        os.chown(folder, 0, GROUP)
        folder.chmod(0o3775)
    speak_to({"": Scheduler(Queue(root))}, monkeypatch)
    yield root
    shutil.rmtree(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be other accounts for a moment")
def test_accounts_share_a_root_and_not_what_their_jobs_open(shared: Path) -> None:
    """The second one submits nothing twice, notes a failure, and can put no link where jobs of the first one write."""
    sweep, queue, options = plain_sweep(shared), Queue(shared), site()  # composed by an account that may read Hydra
    with account(4711):
        assert len(submit(sweep, options).new) == 2
    with account(4712):
        assert (len(submit(sweep, options).in_flight), submit(sweep, options).new) == (2, ())
        first, last = queue.records()
        queue.write(replace(first, name="ng-of-the-second"))
        for record in (first, last):
            batch = queue.batch_folder(record.name)
            with pytest.raises(PermissionError):
                (batch / f"{record.job_id}_0_log.out").symlink_to(shared)
            with pytest.raises(PermissionError):
                batch.rename(shared / "queue" / "away")
        queue.cancel_dependants(first.name, 0)
    with account(4711):
        assert [bool(queue.cancel_reason(record)) for record in (first, last)] == [False, False]  # it waits for any end
        assert queue.batch_folder("ng-of-the-second").is_dir()
        assert queue.settle({}) == queue.records()
