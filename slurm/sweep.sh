#!/usr/bin/env bash
# One experiment as a chain of jobs, without the launcher: networks, then both stages, then the table.
#   slurm/sweep.sh dataset=mnist target=cnn
# NEUROGEN_SBATCH (options of sbatch for every job) chooses partition, account and the like, NEUROGEN_TUNE_SBATCH what
# both stages ask for beside that; NEUROGEN_NETWORK_JOBS (2) is over how many jobs the networks are shared out.
set -euo pipefail
cd "$(dirname "$0")/.."

read -r -a options <<< "${NEUROGEN_SBATCH:-}"
read -r -a stage_options <<< "${NEUROGEN_TUNE_SBATCH:-}"
last=$((${NEUROGEN_NETWORK_JOBS:-2} - 1))
networks=$(sbatch --parsable "${options[@]}" --array="0-$last" slurm/reference.sbatch "$@")
options+=(--kill-on-invalid-dep=yes) # what waits for a job that failed would wait for ever
tune=$(sbatch --parsable "${options[@]}" "${stage_options[@]}" --dependency="afterok:$networks" slurm/tune.sbatch "$@")
table=$(sbatch --parsable "${options[@]}" --dependency="afterok:$tune" slurm/aggregate.sbatch "$@")
echo "networks $networks, stages $tune, table $table"
