#!/usr/bin/env bash
# Run a study as a SLURM array: one job begins it, each task of an array carries out a part of its runs, and a last job
# compares and reports.
#
#   scripts/slurm_study.sh PARTS DATASET --out STUDY [options of `whichloss study`]
#
# WHICHLOSS_SBATCH holds the options of sbatch (partition, GPU, memory, time), e.g.
#   WHICHLOSS_SBATCH="--partition=gpu --gres=gpu:1 --cpus-per-task=8 --mem=32G --time=04:00:00"
# DATASET and STUDY must have the same path on every node. Submitting again continues the rest.
set -euo pipefail
[ $# -ge 2 ] && [[ "$1" =~ ^[1-9][0-9]*$ ]] || { sed -n '2,10p' "${BASH_SOURCE[0]}" >&2; exit 2; }
command -v sbatch >/dev/null || { echo "error: sbatch: not found; run this on a SLURM login node" >&2; exit 2; }
command -v whichloss >/dev/null || { echo "error: whichloss: not found; activate its environment first" >&2; exit 2; }
parts="$1"
shift
study="$(printf '%q ' whichloss study "$@")"
read -r -a options <<<"${WHICHLOSS_SBATCH:-${SEGLOSS_SBATCH:-}}"

submit() { sbatch --parsable --export=ALL "${options[@]}" "$@"; }
begin="$(submit --job-name=whichloss-begin --wrap="$study --jobs 1 --part 0/$parts")"
array="$(submit --job-name=whichloss-part --dependency="afterok:${begin%%;*}" --array="1-$parts" \
    --wrap="$study --jobs 1 --part \$SLURM_ARRAY_TASK_ID/$parts")"
submit --job-name=whichloss-report --dependency="afterany:${array%%;*}" --wrap="$study --jobs 1"
