"""One spelling of orientation and pixel spacing for all slices of a series, which highdicom requires to be equal.

Only series whose slices agree within `ORIENTATION_TOLERANCE` and `SPACING_TOLERANCE` come this far; see `stacking`.
"""

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from pipeline.inference.dicom.geometry import common_orientation

_SHARED = (("PlaneOrientationSequence", "ImageOrientationPatient"), ("PixelMeasuresSequence", "PixelSpacing"))


def harmonized(datasets: list[Dataset]) -> list[Dataset]:
    """Give all slices the most common orientation and the pixel spacing of the first; return the same datasets.

    A multi-frame file that states them for each frame gets them once for all frames (PS3.3, C.7.6.16.1.1).
    """
    if "PerFrameFunctionalGroupsSequence" in datasets[0]:
        _share(datasets[0])
        return datasets
    orientation = _most_common([dataset.ImageOrientationPatient for dataset in datasets])
    spacing = datasets[0].PixelSpacing
    for dataset in datasets:
        dataset.ImageOrientationPatient = orientation
        dataset.PixelSpacing = spacing
    return datasets


def _share(dataset: Dataset) -> None:
    """Move orientation and pixel measures from the frames of a multi-frame file to its shared functional groups."""
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
    """Return the most common orientation in the spelling of its file."""
    numbers = [tuple(float(value) for value in orientation) for orientation in orientations]
    return orientations[numbers.index(common_orientation(numbers))]
