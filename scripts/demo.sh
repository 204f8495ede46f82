#!/usr/bin/env bash
# Phantoms, a whole small study, the verdict and a report: offline once installed. Arguments go to `segloss demo`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

setup_environment
code=0
segloss demo "$@" || code=$?
if [ "$code" -ne 2 ] && [ -z "${VIRTUAL_ENV:-${CONDA_PREFIX:-}}" ]; then
    say "To have segloss at hand:  source $project/.venv/bin/activate"
fi
exit "$code"
