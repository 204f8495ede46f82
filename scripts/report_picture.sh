#!/usr/bin/env bash
# Draw docs/images/report.png: the first page of the report of a study on phantoms. Needs Chromium.
#
#   scripts/report_picture.sh [FOLDER]    FOLDER holds phantoms and study (report-picture); the same call continues it
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

setup_environment
command -v chromium >/dev/null || fail "chromium: not found; install it"
folder="$(realpath "${1:-report-picture}")"
mkdir -p "$folder"
python - "$folder/phantoms" <<'PYTHON'
import sys
from pathlib import Path

from pipeline import make_phantoms

if not Path(sys.argv[1], "dataset.json").exists():
    make_phantoms(Path(sys.argv[1]), cases=20, shape=(32, 32, 28), foreground_fraction=0.03)
PYTHON
segloss study "$folder/phantoms" --losses ce,dice,dice_ce,weighted_ce --folds 5 --budget 200steps \
    --learning-rates 0.008 --no-track --out "$folder/study"
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --force-color-profile=srgb --window-size=1100,900 \
    --screenshot="$folder/report.png" "file://$folder/study/report.html" 2>/dev/null
python - "$folder/report.png" "$project/docs/images/report.png" <<'PYTHON'
import sys

from PIL import Image

# A palette of 256 colors keeps the file small.
Image.open(sys.argv[1]).convert("RGB").quantize(256).save(sys.argv[2], optimize=True)
PYTHON
say "wrote docs/images/report.png"
