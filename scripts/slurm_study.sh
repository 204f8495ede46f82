#!/usr/bin/env bash
# A study as a SLURM array: one job begins it, an array takes a part of its runs each, a last one compares and reports.
#
#   scripts/slurm_study.sh PARTS DATASET --out STUDY [options of `segloss study`]
#
# Options of sbatch for the parts (partition, GPU, memory, time) come from SEGLOSS_SBATCH, e.g.
#   SEGLOSS_SBATCH="--partition=gpu --gres=gpu:1 --cpus-per-task=8 --mem=32G --time=04:00:00"
# DATASET and STUDY must lie at the same path on every node. Submitting again continues what is left.
set -euo pipefail
[ $# -ge 2 ] && [[ "$1" =~ ^[1-9][0-9]*$ ]] || { sed -n '2,9p' "${BASH_SOURCE[0]}" >&2; exit 2; }
command -v sbatch >/dev/null || { echo "error: sbatch: not found; run this on a SLURM login node" >&2; exit 2; }
command -v segloss >/dev/null || { echo "error: segloss: not found; activate its environment first" >&2; exit 2; }
parts="$1"
shift
study="$(printf '%q ' segloss study "$@")"
read -r -a options <<<"${SEGLOSS_SBATCH:-}"

submit() { sbatch --parsable --export=ALL "${options[@]}" "$@"; }
begin="$(submit --job-name=segloss-begin --wrap="$study --jobs 1 --part 0/$parts")"
array="$(submit --job-name=segloss-part --dependency="afterok:${begin%%;*}" --array="1-$parts" \
    --wrap="$study --jobs 1 --part \$SLURM_ARRAY_TASK_ID/$parts")"
submit --job-name=segloss-report --dependency="afterany:${array%%;*}" --wrap="$study --jobs 1"
