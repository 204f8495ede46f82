"""Malformed pairs given to MONAI's usual training chain and to `segloss`: who accepts them, and who names the file.

    python benchmarks/integrity.py

Writes each of the 34 pairs of `tests/data/nifti_kinds.py` into an empty folder and reads it with both.
"""

import argparse
import json
import resource
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "data"))

from nifti_kinds import MALFORMED, THE_34, image, label, write_pair

ADDRESS_SPACE_BYTES = 16 << 30
"""A file that claims 30 GB shall not take them from this machine."""


def monai_verdict(folder: Path) -> str:
    """Return "accepted", "named" or "unnamed": what LoadImaged … RandCropByPosNegLabeld make of the pair."""
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        Orientationd,
        RandCropByPosNegLabeld,
        Spacingd,
    )

    keys = ("image", "label")
    chain = Compose(
        [
            LoadImaged(keys),
            EnsureChannelFirstd(keys),
            Orientationd(keys, axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacingd(keys, (1.0, 2.0, 3.0), mode=("bilinear", "nearest")),
            RandCropByPosNegLabeld(keys, "label", (4, 4, 4), num_samples=2),
        ]
    )
    files = {"image": image(folder), "label": label(folder)}
    try:
        chain({key: str(path) for key, path in files.items()})
    except (Exception, SystemExit) as error:
        said, cause = "", error
        while cause is not None:
            said += str(cause)
            cause = cause.__cause__
        return "named" if any(path.name in said for path in files.values()) else "unnamed"
    return "accepted"


def segloss_verdict(folder: Path, file: str) -> str:
    """Return the same for `pipeline.data.scan`."""
    from pipeline.data.dataset import Case, Dataset
    from pipeline.data.scan import scan_dataset

    case = Case("a", (image(folder),), label(folder), "a")
    dataset = Dataset("made", folder, "list", ("image",), {0: "background", 1: "thing"}, (case,))
    errors = [problem for problem in scan_dataset(dataset, workers=1, memory_gib=0.05).errors if problem.case]
    if not errors:
        return "accepted"
    return "named" if any(problem.file.endswith(file) for problem in errors) else "unnamed"


def main() -> None:
    """Print a line a pair, then the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    warnings.simplefilter("ignore")
    rows = []
    for kind in THE_34:
        write, file, _ = MALFORMED[kind]
        with tempfile.TemporaryDirectory() as name:
            write_pair(Path(name))
            write(Path(name))
            rows.append(
                {"pair": kind, "monai": monai_verdict(Path(name)), "segloss": segloss_verdict(Path(name), file)}
            )
    counts = {who: Counter(str(row[who]) for row in rows) for who in ("monai", "segloss")}
    if arguments.json:
        print(json.dumps({"pairs": rows, "counts": counts}, indent=2))
        return
    for row in rows:
        print(f"{row['pair']:34} {row['monai']:9} {row['segloss']}")
    print()
    for what in ("accepted", "named", "unnamed"):
        print(f"{what:34} {counts['monai'][what]:<9} {counts['segloss'][what]}")


if __name__ == "__main__":
    main()
