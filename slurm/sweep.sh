#!/usr/bin/env bash
# One experiment as a chain of jobs, without the launcher: the site check, networks, both stages, the table. What they
# read from outside is fetched here first (fetch=false: by the jobs; site_check=false: without the check).
#   slurm/sweep.sh dataset=mnist target=cnn
# NEUROGEN_SBATCH holds options of sbatch for every job, such as partition and account, NEUROGEN_TUNE_SBATCH further ones
# for both stages. NEUROGEN_NETWORK_JOBS (2) is the number of jobs that train the networks.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -n "${SLURM_JOB_ID:-}" ]]; then # inside salloc: what it was given is not for the jobs
    for name in ${!SLURM_@}; do
        case $name in
        SLURM_CONF | SLURM_CONF_SERVER | SLURM_CLUSTERS | SLURM_JWT | SLURM_SACK_*) ;;
        *) unset "$name" ;;
        esac
    done
fi
# shellcheck source=slurm/env.sh
source slurm/env.sh

[[ " $* " == *" fetch=false "* ]] || python -m neurogen.run "$@" stop_after=fetch

# Submit a job, and print its id alone: with SLURM_CLUSTERS sbatch adds the cluster, which --dependency does not take.
submit() {
    local job
    job=$(sbatch --parsable "$@") || return
    echo "${job%%;*}"
}

read -r -a options <<< "${NEUROGEN_SBATCH:-}"
read -r -a stage_options <<< "${NEUROGEN_TUNE_SBATCH:-}"
after_check=() after_stage_check=""
if [[ " $* " != *" site_check=false "* ]]; then
    check=$(submit "${options[@]}" slurm/check.sbatch "$@")
    stage_check=$check # the stages may run on other nodes
    if [[ ${#stage_options[@]} -gt 0 ]]; then
        stage_check=$(submit "${options[@]}" "${stage_options[@]}" slurm/check.sbatch "$@")
    fi
    after_check=(--dependency="afterok:$check:$stage_check") after_stage_check=":$stage_check"
    echo "checks $check $stage_check"
fi
options+=(--kill-on-invalid-dep=yes) # else dependants of a failed job would wait for ever
last=$((${NEUROGEN_NETWORK_JOBS:-2} - 1))
networks=$(submit "${options[@]}" "${after_check[@]}" --array="0-$last" slurm/reference.sbatch "$@")
tune=$(submit "${options[@]}" "${stage_options[@]}" --dependency="afterok:$networks$after_stage_check" \
    slurm/tune.sbatch "$@")
table=$(submit "${options[@]}" --dependency="afterok:$tune" slurm/aggregate.sbatch "$@")
echo "networks $networks, stages $tune, table $table"
