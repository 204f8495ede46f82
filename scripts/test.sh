#!/usr/bin/env bash
# The tests. Arguments replace the default choice (the examples of the package, then all tests but the slow ones in two
# processes), e.g.
#   bash scripts/test.sh tests/metrics -x
#   bash scripts/test.sh -m slow
# Tests that drive a browser skip where Chromium is absent, those on real volumes where ../shared/data is,
# those with a real PACS where Orthanc or dcmtk is.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

setup_environment dev
cd "$project"
if [ $# -eq 0 ]; then
    python -m pytest -q --doctest-modules pipeline
    set -- -q -n 2 -m "not slow"
fi
# Two processes on two cores: a thread each.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec python -m pytest "$@"
