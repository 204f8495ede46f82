#!/usr/bin/env bash
# Run the tests. By default these are the examples of the package, then all tests but the slow ones, in two processes.
# Arguments replace that choice, for example:
#   bash scripts/test.sh tests/metrics -x
#   bash scripts/test.sh -m slow
# Browser tests are skipped without Chromium, tests on real volumes without ../shared/data, and tests with a real PACS
# without Orthanc or dcmtk.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

setup_environment dev
cd "$project"
if [ $# -eq 0 ]; then
    python -m pytest -q --doctest-modules pipeline
    set -- -q -n 2 --dist loadscope -m "not slow"
fi
# Two processes on two cores: one thread each.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Where a test asks for two threads, they would otherwise wait for each other at full load, beside the other process.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
exec python -m pytest "$@"
