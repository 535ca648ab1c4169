#!/usr/bin/env bash
# One experiment as a chain of jobs, without the launcher: networks, both stages, the table.
#   slurm/sweep.sh dataset=mnist target=cnn
# NEUROGEN_SBATCH holds options of sbatch for every job, such as partition and account, NEUROGEN_TUNE_SBATCH further ones
# for both stages. NEUROGEN_NETWORK_JOBS (2) is the number of jobs that train the networks.
set -euo pipefail
cd "$(dirname "$0")/.."

read -r -a options <<< "${NEUROGEN_SBATCH:-}"
read -r -a stage_options <<< "${NEUROGEN_TUNE_SBATCH:-}"
last=$((${NEUROGEN_NETWORK_JOBS:-2} - 1))
networks=$(sbatch --parsable "${options[@]}" --array="0-$last" slurm/reference.sbatch "$@")
options+=(--kill-on-invalid-dep=yes) # else dependants of a failed job would wait for ever
tune=$(sbatch --parsable "${options[@]}" "${stage_options[@]}" --dependency="afterok:$networks" slurm/tune.sbatch "$@")
table=$(sbatch --parsable "${options[@]}" --dependency="afterok:$tune" slurm/aggregate.sbatch "$@")
echo "networks $networks, stages $tune, table $table"
