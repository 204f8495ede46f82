# Sourced by the other scripts: an environment with this project in it, installed once.
#
#   setup_environment          what the program needs
#   setup_environment dev      and what its tests need
#
# Uses the active environment (VIRTUAL_ENV or CONDA_PREFIX), else .venv, which it makes. Sets PATH and `project`.

project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
torch_without_gpu="torch==2.13.0"
torch_cpu_index="https://download.pytorch.org/whl/cpu"

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $*"
    exit 2
}

setup_environment() {
    local extras="${1:-}" prefix stamp key
    prefix="$(_environment)" || exit 2
    export PATH="$prefix/bin:$PATH"
    key="$( (cat "$project/pyproject.toml" && echo "$project") | cksum)"
    for stamp in "$prefix/.whichloss-installed-dev" "$prefix/.whichloss-installed-$extras"; do
        if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ]; then
            return 0
        fi
    done
    say "installing into $prefix (once)"
    if compgen -G "$prefix/.segloss-installed-*" >/dev/null; then
        # Version 0.1.0 was called segloss; both would own the command of that name.
        python -m pip uninstall --quiet --yes segloss && rm -f "$prefix"/.segloss-installed-*
    fi
    _install_torch
    python -m pip install --quiet --editable "$project${extras:+[$extras]}" || fail "installing failed; see pip's message above"
    printf '%s\n' "$key" >"$prefix/.whichloss-installed-$extras"
}

# Print the folder of the environment, made if need be.
_environment() {
    local prefix="${VIRTUAL_ENV:-${CONDA_PREFIX:-}}"
    if [ -n "$prefix" ] && [ -x "$prefix/bin/python" ]; then
        _fits "$prefix/bin/python" || fail "$prefix: the active environment is not Python 3.11, 3.12 or 3.13; deactivate it, or make one"
        printf '%s\n' "$prefix"
        return
    fi
    prefix="$project/.venv"
    if ! { [ -x "$prefix/bin/python" ] && _fits "$prefix/bin/python" && "$prefix/bin/python" -m pip --version >/dev/null 2>&1; }; then
        _make_environment "$prefix"
    fi
    printf '%s\n' "$prefix"
}

# Make an environment in a folder, by the first Python that fits.
_make_environment() {
    local prefix="$1" candidate
    for candidate in python3.11 python3.12 python3.13 python3 python ""; do
        [ -n "$candidate" ] || fail "no Python 3.11, 3.12 or 3.13 found; install it, or activate an environment that has it"
        if command -v "$candidate" >/dev/null && _fits "$candidate"; then break; fi
    done
    say "making $prefix"
    # Debian splits venv from Python; virtualenv brings what it lacks.
    "$candidate" -m venv "$prefix" >&2 ||
        { "$candidate" -m pip install --quiet --user virtualenv >&2 && "$candidate" -m virtualenv --quiet "$prefix" >&2; } ||
        fail "$prefix: could not be made; install venv for $candidate, or virtualenv"
}

_fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

# Without an NVIDIA GPU: the CPU build, never gigabytes of CUDA. With one, pip's own choice is right.
_install_torch() {
    if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then return 0; fi
    if python -c 'import importlib.metadata as m; m.version("torch")' 2>/dev/null; then return 0; fi
    _install_cpu_torch
}

_install_cpu_torch() {
    # What would come? A build for CUDA says so in what it requires; asking downloads nothing large.
    if python -m pip install --quiet --dry-run --no-deps --report - "$torch_without_gpu" 2>/dev/null | python -c '
import json, sys
(torch,) = json.load(sys.stdin)["install"]
needs = " ".join(torch["metadata"].get("requires_dist") or []).lower()
sys.exit("nvidia" in needs or "cuda" in needs)' 2>/dev/null; then
        python -m pip install --quiet "$torch_without_gpu" && return 0
    fi
    python -m pip install --quiet --index-url "$torch_cpu_index" "$torch_without_gpu" ||
        fail "no CPU build of $torch_without_gpu on the default index or $torch_cpu_index; install torch by hand, then call again"
}
