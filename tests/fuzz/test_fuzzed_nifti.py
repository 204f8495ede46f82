"""Mutated NIfTI headers and gzip streams are refused in one line, or read with the values of nibabel."""

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from nifti_kinds import AFFINE, OBLIQUE, image_array
from watch import cut_or_changed, mutated, times, watch

from pipeline.data.nifti import read_volume

BUDGET_BYTES = 4 << 20
MEMORY_BYTES = 64 << 20
FEW = 300
few_and_many = pytest.mark.parametrize(
    "many", [False, pytest.param(True, marks=[pytest.mark.fuzz, pytest.mark.slow])], ids=["few", "many"]
)


def read_from(path: Path):  # type: ignore[no-untyped-def]
    def read(content: bytes) -> str:
        path.write_bytes(content)
        array, affine, spacing_mm = read_volume(path, max_bytes=BUDGET_BYTES)
        assert np.isfinite(affine).all()
        assert min(spacing_mm) > 0
        expected = np.asarray(nib.load(path).dataobj)
        np.testing.assert_array_equal(array, expected.reshape(array.shape))
        return "read as nibabel reads them"

    return read


def headers(count: int) -> Iterator[bytes]:
    random = np.random.default_rng(0)
    one = nib.Nifti1Image(image_array(), OBLIQUE).to_bytes()
    two = nib.Nifti2Image(image_array(), OBLIQUE).to_bytes()
    for index in range(count):
        yield mutated(two, random, 0, 544, 3) if index % 4 == 0 else mutated(one, random, 0, 352, 3)


def streams(count: int) -> Iterator[bytes]:
    random = np.random.default_rng(1)
    data = gzip.compress(nib.Nifti1Image(image_array(), AFFINE).to_bytes(), mtime=0)
    for _ in range(count):
        yield cut_or_changed(data, random)


@few_and_many
@pytest.mark.filterwarnings("ignore")
def test_mutated_nifti_headers(tmp_path: Path, many: bool) -> None:
    print(watch(headers(times(FEW, 10_000) if many else FEW), read_from(tmp_path / "a.nii"), MEMORY_BYTES))


@few_and_many
@pytest.mark.filterwarnings("ignore")
def test_mutated_gzip_streams(tmp_path: Path, many: bool) -> None:
    print(watch(streams(times(FEW, 5_000) if many else FEW), read_from(tmp_path / "a.nii.gz"), MEMORY_BYTES))
