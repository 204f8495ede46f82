#!/usr/bin/env bash
# Make phantoms and run a small study with verdict and report, offline once installed. Arguments go to `whichloss demo`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

setup_environment
code=0
whichloss demo "$@" || code=$?
if [ "$code" -ne 2 ] && [ -z "${VIRTUAL_ENV:-${CONDA_PREFIX:-}}" ]; then
    say "To use whichloss in this shell:  source $project/.venv/bin/activate"
fi
exit "$code"
