#!/usr/bin/env bash
# The beginning of every template here. Edit it for your site, or set these variables where you submit.
#   NEUROGEN_VENV    virtual environment with neurogen            (default: .venv beside the repository's setup.cfg)
#   NEUROGEN_SETUP   shell lines before it, e.g. "module load cuda"
#   NEUROGEN_MAX_REQUEUES   how often a job goes back into the queue that was stopped before its end (default: 5)

if [[ -n "${SLURM_JOB_ID:-}" ]]; then # what other ranks left behind where sbatch was called
    unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT TORCHELASTIC_USE_AGENT_STORE \
        OMPI_COMM_WORLD_LOCAL_RANK
fi
if [[ -n "${NEUROGEN_SETUP:-}" ]]; then
    eval "$NEUROGEN_SETUP"
fi
NEUROGEN_VENV="${NEUROGEN_VENV:-$PWD/.venv}"
if [[ ! -x "$NEUROGEN_VENV/bin/python" ]]; then
    echo "error: there is no $NEUROGEN_VENV/bin/python; set NEUROGEN_VENV" >&2
    exit 1
fi
export PATH="$NEUROGEN_VENV/bin:$PATH"
if [[ -n "${SLURM_JOB_ID:-}" && " $* " != *" fetch=false "* ]]; then
    export HF_HUB_OFFLINE=1 # jobs download nothing: slurm/sweep.sh has fetched it
fi
export SLURM_EXPORT_ENV=ALL # with --export=NONE srun would start the ranks without all this
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # since SLURM 22.05 srun does not inherit it

# Run a command that goes on where it was stopped, and end with its status. SLURM stops it before the time limit
# (--signal) and when the job is preempted; it saves, ends with status 130 (143 in its first seconds, when there is
# nothing to save), and the job goes back into the queue. Of several tasks 143 may only say that one of them has failed,
# and that srun has ended the others. Where the job is cancelled, SLURM ends this shell as well.
resumable() {
    local status=0 job=${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-}}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}
    "$@" || status=$?
    local is_stopped=$((status == 130 || (status == 143 && ${SLURM_NTASKS:-1} == 1)))
    if [[ $is_stopped -eq 1 && -n $job && ${SLURM_RESTART_COUNT:-0} -lt ${NEUROGEN_MAX_REQUEUES:-5} ]]; then
        echo "stopped before its end, back into the queue"
        for pause in 2 5 10 20; do # a busy controller
            scontrol requeue "$job" && break
            sleep $pause
        done
    elif [[ $is_stopped -eq 1 ]]; then
        echo "error: stopped before its end, after ${SLURM_RESTART_COUNT:-0} restarts; raise its --time, or" \
            "NEUROGEN_MAX_REQUEUES; the same command goes on" >&2
    fi
    exit "$status"
}
