"""One orientation and one pixel spacing for all slices of a series, as highdicom requires them to be exactly equal.

Series whose slices differ by more than `geometry.ORIENTATION_TOLERANCE` or `stacking.PIXEL_SPACING_TOLERANCE_MM` are
refused before: only differences of rounding are left here.
"""

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from pipeline.inference.dicom.geometry import most_common_orientation

_SHARED = (("PlaneOrientationSequence", "ImageOrientationPatient"), ("PixelMeasuresSequence", "PixelSpacing"))


def with_uniform_geometry(datasets: list[Dataset]) -> list[Dataset]:
    """Give all slices the most common orientation and the pixel spacing of the first one; return the same datasets.

    In a multi-frame file that states them for each frame they are moved to the groups that all frames share (PS3.3,
    C.7.6.16.1.1).
    """
    if "PerFrameFunctionalGroupsSequence" in datasets[0]:
        _move_to_shared_groups(datasets[0])
        return datasets
    orientation = _most_common([dataset.ImageOrientationPatient for dataset in datasets])
    spacing = datasets[0].PixelSpacing
    for dataset in datasets:
        dataset.ImageOrientationPatient = orientation
        dataset.PixelSpacing = spacing
    return datasets


def _move_to_shared_groups(dataset: Dataset) -> None:
    frames = dataset.PerFrameFunctionalGroupsSequence
    if not dataset.get("SharedFunctionalGroupsSequence"):
        dataset.SharedFunctionalGroupsSequence = Items([Dataset()])
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for sequence, keyword in _SHARED:
        if not all(frame.get(sequence) for frame in frames):
            continue
        items = frames[0].get(sequence)
        if keyword == "ImageOrientationPatient":
            items[0].ImageOrientationPatient = _most_common([frame.get(sequence)[0].get(keyword) for frame in frames])
        setattr(shared, sequence, items)
        for frame in frames:
            delattr(frame, sequence)


def _most_common(orientations: Sequence[Sequence[float]]) -> Sequence[float]:
    """Return the most common orientation with the digits of its file."""
    numbers = [tuple(float(value) for value in orientation) for orientation in orientations]
    return orientations[numbers.index(most_common_orientation(numbers))]
