#!/usr/bin/env bash
# Install the project into a new environment that does not need the checkout, as Dockerfile and whichloss.def do.
#
#   scripts/install.sh PREFIX [cpu|cuda] [EXTRAS]    e.g. scripts/install.sh /opt/whichloss cuda nnunet,ray
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

prefix="${1:-}" build="${2:-cpu}" extras="${3:-}"
[ -n "$prefix" ] && [[ "$build" =~ ^(cpu|cuda)$ ]] || { sed -n '2,4p' "${BASH_SOURCE[0]}" >&2; exit 2; }
[ ! -e "$prefix/bin/python" ] || fail "$prefix: holds an environment; give another folder"
_make_environment "$prefix"
export PATH="$prefix/bin:$PATH"
# pip's own choice has CUDA.
[ "$build" = cuda ] || _install_cpu_torch
python -m pip install --quiet "$project${extras:+[$extras]}" || fail "installing failed; see pip's message above"
(cd / && whichloss --help >/dev/null) || fail "$prefix: whichloss does not start"
say "installed whichloss in $prefix"
