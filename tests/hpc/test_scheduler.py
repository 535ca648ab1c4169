"""What SLURM's commands say, and how often they are asked. The commands here are small scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc.errors import ClusterError, Unanswered
from hpc.jobs import command, scheduler
from hpc.jobs.limits import largest_array, limit_in
from hpc.jobs.sbatch import advice_on, id_in, sbatch
from hpc.jobs.scheduler import indices_of, seconds
from tests.hpc.conftest import site

SILENCE = "Socket timed out on send/recv operation"
BUSY_TWICE = f'[ $calls -lt 3 ] && echo "{SILENCE}" >&2 && exit 1'


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on the PATH; pauses between two attempts are a hundredth of the usual ones."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("NEUROGEN_POLL_S", "0.05")
    return folder


def add(folder: Path, name: str, script: str) -> Path:
    """Make a command; returns the file to which each call adds a line."""
    calls = folder / f"{name}.calls"
    (folder / name).write_text(f"#!/bin/sh\necho call >> {calls}\ncalls=$(wc -l < {calls})\n{script}\n")
    (folder / name).chmod(0o755)
    return calls


@pytest.mark.parametrize(
    ("text", "expected"), [("", [None]), ("3", [3]), ("[0,2-4%2]", [0, 2, 3, 4]), ("[7]", [7]), ("[1-2]", [1, 2])]
)
def test_tasks_that_sacct_names_are_read(text: str, expected: list[int | None]) -> None:
    assert list(indices_of(text)) == expected


@pytest.mark.parametrize(("text", "expected"), [("0:07", 7), ("1:02:03", 3723), ("2-00:00:01", 172801), ("INVALID", 0)])
def test_elapsed_times_are_read(text: str, expected: int) -> None:
    assert seconds(text) == expected


def test_a_busy_controller_is_asked_again(commands: Path) -> None:
    calls = add(commands, "squeue", f'{BUSY_TWICE}; echo "7|N/A|RUNNING|0:01||n1|a"')
    (task,) = scheduler.query(["a", "b"])["a"]
    assert (task.job_id, task.index, task.is_active) == ("7", None, True)
    assert len(calls.read_text().splitlines()) == 3


def test_what_a_wrapper_of_sacct_prints_is_no_job(commands: Path) -> None:
    add(commands, "sacct", 'echo "welcome to our cluster"; echo "7_1|TIMEOUT|60|gres/gpu=2|n1|a"')
    (task,) = scheduler.history(["7"])["a"]
    assert (task.job_id, task.index, task.state, task.gpus) == ("7", 1, "TIMEOUT", 2)


@pytest.mark.parametrize(
    ("message", "setting"),
    [
        ("Batch job submission failed: Invalid generic resource (gres) specification", "cluster.gpu_type (now h100)"),
        ("Batch job submission failed: Invalid feature specification", "cluster.constraint (now fast)"),
        ("Batch job submission failed: Invalid job array specification", "cluster.max_array"),
    ],
)
def test_what_a_site_refuses_is_said_with_the_setting_to_change(message: str, setting: str) -> None:
    assert setting in advice_on(message, site("cluster.gpu_type=h100", "cluster.constraint=fast"))


def test_a_list_of_clusters_may_have_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CLUSTERS", "a, b")
    assert command.cluster() == "a,b"
    monkeypatch.setenv("SLURM_CLUSTERS", "a; touch b")
    with pytest.raises(ClusterError, match="SLURM_CLUSTERS='a; touch b' must be the name of a cluster"):
        command.cluster()


def test_a_refusal_is_not_asked_again(commands: Path) -> None:
    calls = add(commands, "squeue", 'echo "Invalid user" >&2; exit 1')
    with pytest.raises(ClusterError, match="squeue: Invalid user") as refusal:
        scheduler.query(["a"])
    assert not isinstance(refusal.value, Unanswered)
    assert len(calls.read_text().splitlines()) == 1


def test_a_controller_that_never_answers_is_given_up(commands: Path) -> None:
    calls = add(commands, "squeue", f'echo "{SILENCE}" >&2; exit 1')
    with pytest.raises(Unanswered, match=SILENCE):
        scheduler.query(["a"])
    assert len(calls.read_text().splitlines()) == command.ATTEMPTS


def test_a_job_that_got_through_is_not_submitted_again(commands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer of sbatch is lost, and the controller stays busy for a while; then it knows the job by name."""
    calls = add(commands, "sbatch", f'echo "{SILENCE}" >&2; exit 1')
    add(commands, "squeue", f'{BUSY_TWICE}; echo "7|N/A|PENDING|0:00||n1|a"')
    assert sbatch(b"script", "a") == "7"
    assert len(calls.read_text().splitlines()) == 1
    assert "asking whether a is in the queue all the same" in capsys.readouterr().err


@pytest.mark.parametrize(
    "silence",
    [
        SILENCE,
        "Batch job submission failed: Unexpected message received",
        "Batch job submission failed: Slurm backup controller in standby mode",
    ],
)
def test_a_job_that_did_not_get_through_is_submitted_again(commands: Path, silence: str) -> None:
    add(commands, "sbatch", f'[ $calls -lt 2 ] && echo "{silence}" >&2 && exit 1; echo "8;cluster"')
    add(commands, "squeue", "exit 0")
    assert sbatch(b"script", "a") == "8"


def test_a_job_that_got_through_late_is_there_once(commands: Path) -> None:
    """The controller takes the first request only after it has said that it knows of none: the second job goes."""
    calls = add(commands, "sbatch", f'[ $calls -lt 2 ] && echo "{SILENCE}" >&2 && exit 1; echo 8')
    add(commands, "squeue", '[ $calls -lt 2 ] && exit 0; for job in 8 7; do echo "$job|N/A|PENDING|0:00||n1|a"; done')
    add(commands, "scancel", f'echo "$@" > {commands}/cancelled')
    assert sbatch(b"script", "a") == "7"
    assert len(calls.read_text().splitlines()) == 2
    assert (commands / "cancelled").read_text() == "-- 8\n"


@pytest.mark.parametrize("refusal", ["QOSMaxSubmitJobPerUserLimit", "Job violates accounting/QOS policy"])
def test_a_job_that_got_through_late_may_be_what_fills_the_limit(commands: Path, refusal: str) -> None:
    """The second request is refused because of the first, which squeue lists only then."""
    add(commands, "sbatch", f'[ $calls -lt 2 ] && echo "{SILENCE}" >&2 || echo "sbatch: error: {refusal}" >&2; exit 1')
    add(commands, "squeue", '[ $calls -lt 2 ] || echo "7|N/A|PENDING|0:00||n1|a"')
    assert sbatch(b"script", "a") == "7"


def test_a_job_that_may_fill_the_limit_is_not_refused(commands: Path) -> None:
    """squeue lists none for as long as it is asked: the record of the job must stay."""
    full = "QOSMaxSubmitJobPerUserLimit"
    add(commands, "sbatch", f'[ $calls -lt 2 ] && echo "{SILENCE}" >&2 || echo "sbatch: error: {full}" >&2; exit 1')
    add(commands, "squeue", "exit 0")
    with pytest.raises(Unanswered, match=f"{full}; an earlier request may have been carried out"):
        sbatch(b"script", "a")


def test_a_job_that_may_be_in_the_queue_is_not_refused(commands: Path) -> None:
    """squeue cannot tell either: the record of the job must stay."""
    add(commands, "sbatch", f'echo "{SILENCE}" >&2; exit 1')
    add(commands, "squeue", 'echo "Invalid user" >&2; exit 1')
    with pytest.raises(Unanswered, match=f"no certain answer of the controller in {command.ATTEMPTS} attempts"):
        sbatch(b"script", "a")


def test_a_command_that_hangs_has_not_answered(commands: Path) -> None:
    add(commands, "squeue", "exec sleep 60")
    with pytest.raises(Unanswered, match="squeue: no answer within 1 s"):
        scheduler.query(["a"], attempts=1, patience_s=1)


@pytest.mark.parametrize("text", ["0", "-1", "soon", ""])
def test_a_pause_that_makes_no_sense_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROGEN_POLL_S", text)
    with pytest.raises(ClusterError, match=f"NEUROGEN_POLL_S={text} must be a number of seconds above 0"):
        command.poll_s()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8\n", "8"),
        ("8;cluster\n", "8"),
        ("Welcome to cluster 9!\n--> Checking budget of 12 hours ... OK\n8\n1 job in the queue\n", "8"),
        ("sbatch: using default partition gpu4\nSubmitted batch job 8 on cluster slaking\n", "8"),
        ("Submitted batch job 8\n8\n", "8"),
        ("7\n8\n", None),
        ("a job was submitted\n", None),
        ("", None),
    ],
)
def test_the_id_of_a_job_is_read_among_what_a_wrapper_prints(text: str, expected: str | None) -> None:
    assert id_in(text) == expected


def test_a_job_whose_id_nobody_prints_is_asked_for_by_name(commands: Path) -> None:
    calls = add(commands, "sbatch", "echo it is in the queue")
    add(commands, "squeue", 'echo "7|N/A|PENDING|0:00||n1|a"')
    assert sbatch(b"script", "a") == "7"
    assert len(calls.read_text().splitlines()) == 1


def test_a_job_that_neither_sbatch_nor_squeue_names_stays_on_record(commands: Path) -> None:
    add(commands, "sbatch", "echo it is in the queue")
    add(commands, "squeue", "exit 0")
    with pytest.raises(Unanswered, match="sbatch answered without a job's id: it is in the queue"):
        sbatch(b"script", "a")


def test_what_a_user_prefers_of_squeue_hides_no_job(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With SQUEUE_PARTITION=debug, squeue would list only that partition, and all others would be submitted again."""
    monkeypatch.setenv("SQUEUE_PARTITION", "debug")
    monkeypatch.setenv("SLURM_CLUSTERS", "a")
    add(commands, "squeue", '[ "$SQUEUE_PARTITION$SLURM_CLUSTERS" = a ] && echo "7|N/A|RUNNING|0:01||n1|a"; exit 0')
    assert scheduler.query(["a"])["a"]


ASKED = """
case "$*" in
    *--format=%U*) echo 4242 ;;
    *--user=4242*--format=%F*) echo 7 ;;
    *--user=4242*) echo "7|N/A|RUNNING|0:01||n1|a" ;;
    *) echo "8|N/A|RUNNING|0:01||n1|a" ;;
esac"""


def test_only_the_jobs_of_the_users_are_asked_for(commands: Path) -> None:
    """Else the controller packs the whole site's queue; it takes no other limit from squeue than a single user."""
    add(commands, "squeue", ASKED)
    user = scheduler.user_of("7")
    assert user == "4242"
    assert [task.job_id for task in scheduler.query(["a"], [user])["a"]] == ["7"]
    assert [task.job_id for task in scheduler.query(["a"], [user, ""])["a"]] == ["8"]  # of somebody unknown


def test_a_user_that_squeue_cannot_look_up_is_unknown(commands: Path) -> None:
    """As SLURM 22.05 says it in a container whose users are not the site's: no line, and exit status 0."""
    unknown = 'case "$*" in *--user*) echo "squeue: error: Invalid user: 4242" >&2 ;; *) echo 4242 ;; esac'
    add(commands, "squeue", unknown)
    assert scheduler.user_of("7") == ""
    with pytest.raises(Unanswered, match="Invalid user: 4242"):  # else all jobs would be submitted again
        scheduler.query(["a"], ["4242"])


@pytest.mark.parametrize(
    "line",
    [
        "7|N/A|RUNNING|1-02:03:04|None|n[1-2],gpu-a-[03-05,07]|a",
        "7|N/A|POWER_UP_NODE|0:00|None|gpu-a-03|a",  # SLURM 20.11 and later
        "7|N/A|EXPEDITING|0:00|None||a",  # SLURM 25.05
        "7|N/A|PENDING|0:00|(ReqNodeNotAvail, UnavailableNodes:n[1-2])||a",
        "CLUSTER: lab\n7|N/A|RUNNING|INVALID|None|n1|a",
    ],
)
def test_lines_of_many_versions_of_squeue_are_read(commands: Path, line: str) -> None:
    add(commands, "squeue", f"printf '{line}\\n'")
    (task,) = scheduler.query(["a"])["a"]
    assert (task.job_id, task.index, task.is_active) == ("7", None, True)


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        ("sbatch: error: AssocMaxSubmitJobLimit sbatch: error: Batch job", "AssocMaxSubmitJobLimit"),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", "QOSMaxSubmitJobPerUserLimit"),
        ("sbatch: error: AssocGrpSubmitJobsLimit", "AssocGrpSubmitJobsLimit"),
        ("sbatch: error: QOSMaxWallDurationPerJobLimit", ""),
        ("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", ""),
    ],
)
def test_a_full_queue_is_told_from_other_refusals(message: str, limit: str) -> None:
    assert limit_in(message) == limit


@pytest.mark.parametrize(
    ("config", "expected"),
    [("MaxArraySize = 11", 11), ("MaxArraySize            = 1001", 32), ("MaxArraySize = 0", 1), ("", 32)],
)
def test_an_array_is_as_large_as_the_site_allows(commands: Path, config: str, expected: int) -> None:
    add(commands, "scontrol", f"echo 'MaxJobCount = 5'; echo '{config}'")
    assert largest_array(32) == expected
    (commands / "scontrol").unlink()
    add(commands, "scontrol", "echo 'Access denied' >&2; exit 1")
    assert largest_array(32) == 32


def test_of_a_federation_the_job_counts_that_was_not_revoked(commands: Path) -> None:
    add(commands, "squeue", 'echo "7|N/A|RUNNING|0:01||n1|a"; echo "7|N/A|REVOKED|0:00||n1|a"')
    (task,) = scheduler.query(["a"])["a"]
    assert task.state == "RUNNING"


def test_accounting_is_asked_of_the_cluster_that_is_meant(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It alone does not read the variable."""
    add(commands, "sacct", 'case "$*" in *--clusters=far*) echo "7|COMPLETED|5||n1|a";; esac')
    assert scheduler.history(["7"]) == {}
    monkeypatch.setenv("SLURM_CLUSTERS", "far")
    assert scheduler.history(["7"])["a"][0].state == "COMPLETED"


def test_more_ids_than_a_word_can_hold(commands: Path) -> None:
    calls = add(commands, "sacct", 'echo "7|COMPLETED|5||n1|a"')
    ids = [str(10_000_000 + number) for number in range(15_000)]
    assert scheduler.history(ids)
    assert len(calls.read_text().splitlines()) == 15


@pytest.mark.parametrize(
    "said",
    [
        "scancel: error: Kill job error on job id 5: Invalid job id specified",
        "scancel: error: Kill job error on job id 5: Job/step already completing or completed",
    ],
)
def test_jobs_that_have_ended_are_cancelled_without_an_error(commands: Path, said: str) -> None:
    denied = "scancel: error: Kill job error on job id 6: Access/permission denied"
    add(commands, "scancel", f'echo "{said}" >&2; echo "{denied}" >&2; exit 1')
    assert scheduler.cancel(["5", "6"]) == ["6"]
    add(commands, "scancel", f'echo "{said}" >&2; echo "scancel: error: something else" >&2; exit 1')
    with pytest.raises(ClusterError, match="something else"):
        scheduler.cancel(["5"])


def test_a_command_that_cannot_be_started_is_one_line(commands: Path) -> None:
    broken = commands / "broken"
    broken.write_text("no program")
    broken.chmod(0o755)
    with pytest.raises(ClusterError, match=r"broken cannot be started \(Exec format error\)"):
        command.ask([str(broken)])
