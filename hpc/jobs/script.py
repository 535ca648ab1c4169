"""The sbatch script of a batch.

in:  a batch, the jobs that it waits for, the site
out: the script's text, with submitit's options; and where the log of a step will be
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc.errors import ClusterError
from hpc.jobs import site_check
from hpc.jobs.cluster import CONTROL, Cluster, GpuOption, Resources
from hpc.jobs.graph import Batch
from hpc.jobs.queue import Record

# What says where ranks are and meet. Where sbatch is called, it may be left over from others, and sbatch passes it on.
OF_OTHER_RANKS = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("TORCHELASTIC_USE_AGENT_STORE", "OMPI_COMM_WORLD_LOCAL_RANK"),
)
DIGEST = "sha256="  # how the word of a job's command begins that says which payload is the job's
PUT_BACK = 75  # the exit status of a step that ran out of time where there is no scontrol (EX_TEMPFAIL)
PUTTING_BACK = f"""\
status=$?
if [ $status = {PUT_BACK} ]; then
    job=${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}
    for pause in 2 5 10 20; do
        scontrol requeue "$job" && break
        sleep $pause
    done
fi
exit $status"""


def dependency_of(needed: Sequence[tuple[Record, int]], kind: str) -> str | None:
    """The option --dependency of `kind` (afterok, afterany) on steps, given as (record, index); None without any.

    Such as afterok:10:11_2: a whole job where all its steps are needed, else its single tasks.
    """
    by_record: dict[str, tuple[Record, set[int]]] = {}
    for record, index in needed:
        by_record.setdefault(record.name, (record, set()))[1].add(index)
    ids: list[str] = []
    for record, indices in by_record.values():
        if not record.is_array or len(indices) == len(record.steps):
            ids.append(str(record.job_id))
        else:
            ids += [f"{record.job_id}_{index}" for index in sorted(indices)]
    return f"{kind}:{':'.join(ids)}" if ids else None


def script_of(
    batch: Batch,
    name: str,
    folder: Path,
    cluster: Cluster,
    dependency: str | None,
    code: Path,
    program: str,
    environment: Mapping[str, str],
    digest: str,
) -> str:
    """The script that runs a batch from its folder, with the snapshot `code` and these variables.

    `program` is the module that knows the steps, `digest` the sha256 of the batch's payload. Raises ClusterError for a
    folder that SLURM or Python would not take as it is.
    """
    from submitit.slurm.slurm import _make_sbatch_string

    if CONTROL.search(str(folder)) or set(str(folder)) & set("%\\"):
        raise ClusterError(
            f"root={str(folder.parent.parent)!r} has a sign that SLURM reads as something else (%, a backslash, a line "
            "break or another control character); give a folder without it"
        )
    for place in (code, Path.cwd()):
        if os.pathsep in str(place):  # jobs would import from two other folders; the first may be anybody's
            raise ClusterError(
                f"{place} has a {os.pathsep}, at which PYTHONPATH is divided; give root= a folder without it, and "
                "submit from one"
            )
    resources = cluster.resources(batch.kind)
    gpus = ":".join([*filter(None, [cluster.gpu_type]), str(resources.gpus_per_node)])
    has_gpus, is_gres = resources.gpus_per_node > 0, cluster.gpu_option == GpuOption.GRES
    delay_s = min(cluster.signal_delay_s, 60 * resources.timeout_min // 2)  # the signal is not to come at the start
    options = {"requeue": True, "signal": f"USR2@{delay_s}"} | cluster.additional
    additional = {option: value for option, value in options.items() if value is not False}  # False: the site's default
    if cluster.kill_on_invalid_dep and dependency:
        additional["kill-on-invalid-dep"] = "yes"
    text: str = _make_sbatch_string(
        command=_command(batch, program, folder, cluster, digest),
        use_srun=batch.kind != site_check.KIND,
        folder=folder,
        job_name=name,
        partition=resources.partition,
        account=resources.account,
        qos=resources.qos,
        constraint=resources.constraint,
        exclude=cluster.exclude,
        time=resources.timeout_min,
        nodes=resources.nodes,
        ntasks_per_node=resources.tasks_per_node,
        cpus_per_task=resources.cpus_per_task,
        gpus_per_node=gpus if has_gpus and not is_gres else None,
        gres=f"gpu:{gpus}" if has_gpus and is_gres else None,
        mem=None if resources.mem_gb is None else f"{round(resources.mem_gb * 1024)}MB",
        signal_delay_s=delay_s,
        dependency=dependency,
        array_parallelism=cluster.array_parallelism,
        map_count=len(batch.steps) if len(batch.steps) > 1 else None,
        stderr_to_stdout=True,
        srun_args=["--kill-on-bad-exit=1", *cluster.srun],  # if one rank fails, end all
        setup=_setup(cluster, resources, code, environment),
        teardown=[PUTTING_BACK] if cluster.container else None,
        additional_parameters=additional,
        wckey=None,  # submitit's default would need accounting
    )
    return text


def _command(batch: Batch, program: str, folder: Path, cluster: Cluster, digest: str) -> str:
    """What runs on every node, as words of a shell: Python, in a container where the site's config names one."""
    python = [cluster.python or sys.executable, "-P", "-u", "-m", "hpc"]
    words = shlex.join([*python, program, str(folder), f"{DIGEST}{digest}"])
    command = f"{cluster.container} {words}" if cluster.container else words
    return f"{_inspecting(folder, cluster)} {command}" if batch.kind == site_check.KIND else command


# What a node may lack before Python can say so. $0 is the root, $1 the batch's folder, the rest the command.
BEFORE_PYTHON = """\
node=${SLURMD_NODENAME:-$(hostname)}
folder=$1
shift
if ! [ -d "$folder" ]; then
  problem="does not see $0; put root= on a file system that all nodes have"
elif ! command -v "$1" > /dev/null; then
  problem="does not have $1; install the environment on a file system that all nodes have, or load it in cluster.setup"
elif ! : > "$folder/rank-${SLURM_RESTART_COUNT:-0}-${SLURM_PROCID:-0}.begun"; then
  problem="cannot write below $0; mend the rights there, or put root= elsewhere"
else
  exec "$@"
fi
echo "error: $node: $problem" >&2
exit 1
"""


def _inspecting(folder: Path, cluster: Cluster) -> str:
    """What stands before the command of a site check, whose ranks go on when one has failed, and all write into the log
    of rank 0: a file of its own could not be opened on a node that does not see the root."""
    srun = ["srun", "--label", "--kill-on-bad-exit=0", *cluster.srun]
    return shlex.join([*srun, "sh", "-c", BEFORE_PYTHON, str(folder.parent.parent), str(folder)])


# Whoever may write into a folder above the root can have put another in its place since the job was submitted. A node
# that does not see the folder is not judged here.
WHOSE_CODE = """\
case $(stat -c %u:%a -- {folder} 2> /dev/null) in
"" | $EUID:700 | $EUID:2700) ;;
*)
    echo "error: ${{SLURMD_NODENAME:-$(hostname)}}: "{folder}" is not the folder that only this account may enter; \
submit again, and see who may write into the folders above it" >&2
    exit 1
    ;;
esac"""


def _setup(cluster: Cluster, resources: Resources, code: Path, environment: Mapping[str, str]) -> list[str]:
    """Lines of shell before the step."""
    variables = {**environment, **cluster.environment}
    return [
        f"unset {' '.join(OF_OTHER_RANKS)}",
        "export SLURM_EXPORT_ENV=ALL",  # with --export=NONE srun would start the ranks without what follows
        *cluster.setup,
        *(f"export {key}={shlex.quote(str(value))}" for key, value in variables.items()),
        WHOSE_CODE.format(folder=shlex.quote(str(code.parent))),
        # the snapshot first, then what was importable where the sweep was submitted
        f"export PYTHONPATH={shlex.quote(str(code))}:{shlex.quote(os.getcwd())}${{PYTHONPATH:+:$PYTHONPATH}}",
        f"export OMP_NUM_THREADS={resources.cpus_per_task}",
        "export PYTHONUTF8=1",  # names of files are what they were where the sweep was submitted
        "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK",  # since SLURM 22.05 srun does not inherit it
    ]


def log_path(record: Record, folder: Path, index: int) -> Path:
    """The log of rank 0 of a step, in the batch's folder."""
    job = f"{record.job_id}_{index}" if record.is_array else str(record.job_id)
    return folder / f"{job}_0_log.out"
