"""Datasets and fingerprints as a scan would give them, without files."""

from pathlib import Path

from pipeline.data.dataset import Case, Dataset
from pipeline.data.fingerprint import CaseScan, ClassScan, Fingerprint, IntensityStatistics

MRI = IntensityStatistics(0.0, 900.0, 100.0, 50.0, 0.01, 300.0, 60.0, 150.0, 600.0)


def scan(
    case="a", shape=(35, 50, 36), spacing=(1.0, 1.0, 1.0), orientation="RAS", channels=(MRI,), voxels=(900, 60, 40)
):
    """Return one case whose label value i has voxels[i] voxels of 1 µL in one component."""
    classes = {
        value: ClassScan(count, count / 1000, 1, count / 1000, count / 1000, (4.0, 4.0, 4.0))
        if count
        else ClassScan(0, 0.0, 0, None, None, None)
        for value, count in enumerate(voxels)
    }
    return CaseScan(case, shape, spacing, orientation, "0" * 64, "uint8", tuple(channels), classes)


def dataset(scans, patients=None, folds=None, channels=("MRI",)):
    """Return the dataset of these scans, one patient per case by default."""
    values = sorted({value for item in scans for value in item.classes})
    cases = tuple(
        Case(
            item.case,
            (Path(f"{item.case}.nii.gz"),),
            Path(f"{item.case}_label.nii.gz"),
            patients[index] if patients else item.case,
            folds[index] if folds else None,
        )
        for index, item in enumerate(scans)
    )
    classes = {value: f"class {value}" if value else "background" for value in values}
    return Dataset("made", Path("made"), "list", tuple(channels), classes, cases)


def scanned(*scans, **options):
    return dataset(scans, **options), Fingerprint(tuple(scans))
