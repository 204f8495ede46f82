"""Mutated DICOM files are read or counted as damaged or other; they never crash or stall the reader."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "inference" / "dicom"))

from dicom_series import enhanced, pixels, slices
from test_fuzzed_nifti import few_and_many
from watch import cut_or_changed, mutated, times, watch

from pipeline.inference.dicom.scan import scan

MEMORY_BYTES = 128 << 20
FEW = 300


def stored(dataset: pydicom.Dataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def files(count: int) -> Iterator[bytes]:
    random = np.random.default_rng(2)
    single, many = stored(slices(pixels())[0]), stored(enhanced(pixels(), order=range(5)))
    for index in range(count):
        data = many if index % 3 == 0 else single
        yield cut_or_changed(data, random) if index % 2 else mutated(data, random, 132, len(data), 6)


def test_a_file_that_claims_more_frames_than_it_has_bytes_is_damaged(tmp_path: Path) -> None:
    one = slices(pixels())[0]
    one.NumberOfFrames = 2_000_000_000
    (tmp_path / "a.dcm").write_bytes(stored(one))
    assert len(scan(tmp_path).damaged) == 1


@few_and_many
@pytest.mark.filterwarnings("ignore")
def test_mutated_dicom_files(tmp_path: Path, many: bool) -> None:
    def read(content: bytes) -> str:
        (tmp_path / "a.dcm").write_bytes(content)
        found = scan(tmp_path)
        assert len(found.groups) + len(found.damaged) + found.others + found.without_pixels <= 1
        return "read" if found.groups else "counted as damaged, as no image or as no DICOM"

    print(watch(files(times(FEW, 10_000) if many else FEW), read, MEMORY_BYTES))
