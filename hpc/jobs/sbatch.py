"""One call of sbatch per batch, however often the controller fails to answer.

in:  a script, and the name of its job
out: the job's id, or an error that tells what to change

An answer may be ambiguous: after a time-out the job may be in the queue or not. Then SLURM is asked for the name before
the script is submitted again, and once more afterwards: a controller that stood still may take the first one late. For
the same reason a refusal counts only of the first request: what refuses a later one may be the first, which fills a
limit.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tenacity import RetryCallState

from hpc.errors import ClusterError, Unanswered
from hpc.jobs import scheduler
from hpc.jobs.cluster import Cluster
from hpc.jobs.command import ATTEMPTS, ask_once, refusals_in_doubt, retrying


def sbatch(script: bytes, name: str, user: str = "") -> str:
    """Submit a script. Returns the id of its job, which exists once however often the controller had to be asked.

    `user` is whose job it will be, by SLURM's number, if that is known. No file is read: others might have put theirs
    in its place.

    Raises ClusterError if the site refuses the job, Unanswered if it may be in the queue or not.
    """
    was_sent = False

    def attempt() -> str:
        nonlocal was_sent
        if was_sent and (job_id := _only_job(name, user)):
            return job_id
        is_again, was_sent = was_sent, True
        with refusals_in_doubt(is_again):
            text = ask_once(["sbatch", "--parsable"], given=script)
        job_id = (_only_job(name, user) if is_again else None) or id_in(text) or _only_job(name, user)
        if job_id is None:
            raise Unanswered(f"sbatch answered without a job's id: {' '.join(text.split())[:200] or 'nothing'}")
        return job_id

    def explain(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        print(f"  {error}; asking whether {name} is in the queue all the same", file=sys.stderr, flush=True)

    try:
        return retrying(before_sleep=explain)(attempt)
    except Unanswered as error:
        raise Unanswered(f"no certain answer of the controller in {ATTEMPTS} attempts ({error})") from error
    except ClusterError as error:
        raise ClusterError(str(error).removeprefix("sbatch: ").removeprefix("sbatch: error: ")) from error


def id_in(text: str) -> str | None:
    """The id in what sbatch printed: a line 7, or 7;CLUSTER, or Submitted batch job 7, among what a wrapper adds.

    None where there is none, or several that differ.
    """
    ids = set(re.findall(r"^(?:Submitted batch job )?(\d+)(?:;\S+| on cluster \S+)?\s*$", text, flags=re.MULTILINE))
    return ids.pop() if len(ids) == 1 else None


def _only_job(name: str, user: str) -> str | None:
    """The id of the job with this name, if SLURM knows it; of several the oldest, and the others are cancelled.

    Raises Unanswered if nobody can tell.
    """
    try:
        tasks = sorted(scheduler.query([name], [user], attempts=1).get(name, []), key=lambda task: int(task.job_id))
        oldest = tasks[0].job_id if tasks else None
        scheduler.cancel({task.job_id for task in tasks if task.may_go_on and task.job_id != oldest})
    except ClusterError as error:
        raise Unanswered(str(error)) from error
    return oldest


def advice_on(message: str, cluster: Cluster) -> str:
    """What to change when sbatch refuses a job with this message; empty where there is no advice."""
    for part, advice in (
        (
            "account/partition combination",
            f"set cluster.account (now {cluster.account}) and cluster.partition (now {cluster.partition}); ",
        ),
        ("partition", f"set cluster.partition (now {cluster.partition}); `sinfo` lists them; "),
        (
            "(gres)",
            f"set cluster.gpu_type (now {cluster.gpu_type}) to one that `sinfo --format='%P %G'` lists, or "
            f"cluster.gpu_option (now {cluster.gpu_option}) to the other one; ",
        ),
        (
            "feature",
            f"set cluster.constraint (now {cluster.constraint}) to what `sinfo --format='%P %f'` lists; ",
        ),
        ("array", f"lower cluster.max_array (now {cluster.max_array}); "),
        (
            "policy",
            "your account or QOS allows less than this job asks for, or fewer such jobs: `sacctmgr show qos` and "
            "`sacctmgr show assoc where user=$USER` say what; lower cluster.steps, or set cluster.qos; ",
        ),
        ("time limit", "lower cluster.steps.default.timeout_min, or that of the step; "),
        ("account", f"set cluster.account (now {cluster.account}); "),
        ("qos", f"set cluster.qos (now {cluster.qos}); "),
        ("node configuration", "lower cluster.steps.default, or what that step asks for; "),
    ):
        if part in message.lower():
            return advice
    return ""


@contextmanager
def without_job_environment() -> Iterator[None]:
    """Inside, SLURM_* and SBATCH_* are hidden: in a job, sbatch would take the job's own resources from them.

    submitit.helpers.clean_env would also hide the variables that say which controller is meant, and who asks.
    """
    keep = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_SACK_KEY", "SLURM_SACK_JWKS")
    hidden = {
        key: value for key, value in os.environ.items() if key.startswith(("SLURM_", "SBATCH_")) and key not in keep
    }
    for key in hidden:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ.update(hidden)
