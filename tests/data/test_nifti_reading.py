import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nifti_kinds import AFFINE, MALFORMED, OBLIQUE, PERMUTED, SHAPE, image_array, patched, save, write_pair

from pipeline.data.integrity import grid_difference
from pipeline.data.nifti import claimed_bytes, read_nifti, read_volume
from pipeline.data.nifti_header import parse_header
from pipeline.errors import DatasetError


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE, PERMUTED])
def test_a_volume_reads_as_nibabel_reads_it(tmp_path: Path, suffix: str, affine: np.ndarray) -> None:
    path = save(tmp_path / f"a{suffix}", image_array(), affine)
    array, found, spacing_mm = read_volume(path)
    reference = nib.load(path)
    np.testing.assert_array_equal(array, reference.get_fdata())
    np.testing.assert_array_equal(found, reference.affine)
    assert spacing_mm == pytest.approx(reference.header.get_zooms(), rel=1e-6)


@pytest.mark.parametrize("dtype", ["u1", "i1", ">i2", "<u2", ">i4", "<u4", ">i8", "<u8", ">f4", "<f8"])
def test_every_numeric_type_and_byte_order_reads_as_nibabel_reads_it(tmp_path: Path, dtype: str) -> None:
    array = np.arange(210).reshape(SHAPE).astype(np.dtype(dtype).newbyteorder("="))
    header = nib.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
    header.set_data_dtype(dtype)
    nib.save(nib.Nifti1Image(array, AFFINE, header), tmp_path / "a.nii.gz")
    found = read_volume(tmp_path / "a.nii.gz")[0]
    np.testing.assert_array_equal(found, array)
    assert found.dtype.isnative


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", np.full(SHAPE, 10, np.int16))
    patched(path, (112, "<2f", (0.5, -3.0)))
    assert read_volume(path)[0][0, 0, 0] == 2.0


def test_header_extensions_are_skipped(tmp_path: Path) -> None:
    image = nib.Nifti1Image(image_array(), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 100))
    nib.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz")[0], image_array())


def test_a_claim_over_the_budget_is_refused_by_its_header_alone(tmp_path: Path) -> None:
    path, _ = write_pair(tmp_path)
    patched(path, (42, "<3h", (2000, 2000, 2000)))
    assert path.stat().st_size < 2000
    assert claimed_bytes(path) == 352 + 4 * 2000**3
    with pytest.raises(DatasetError, match=r"29\.8 GiB, over the budget of 0\.5 GiB"):
        read_nifti(path, max_bytes=1 << 29)


def test_a_claim_within_the_budget_allocates_no_more_than_the_stream_holds(tmp_path: Path) -> None:
    import tracemalloc

    path, _ = write_pair(tmp_path)
    patched(path, (42, "<3h", (700, 700, 700)))
    tracemalloc.start()
    with pytest.raises(DatasetError, match="cut short"):
        read_nifti(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = write_pair(tmp_path)
    opened = Path.open

    def open_and_grow(self: Path, *arguments: str):  # type: ignore[no-untyped-def]
        with opened(self, "ab") as stream:
            stream.write(b"more")
        return opened(self, *arguments)

    monkeypatch.setattr(Path, "open", open_and_grow)
    with pytest.raises(DatasetError, match="changed while it was read"):
        read_nifti(path)


def _header(affine: np.ndarray, shape: tuple[int, int, int] = SHAPE):  # type: ignore[no-untyped-def]
    data = nib.Nifti1Image(np.zeros(shape, np.uint8), affine).to_bytes()
    return parse_header(data[:544], "a")


def test_grids_differ_only_beyond_a_tenth_of_a_voxel() -> None:
    moved = OBLIQUE.copy()
    moved[:3, 3] += [0.05, 0.05, 0.05]
    assert grid_difference(_header(moved), _header(OBLIQUE)) == ""
    moved[:3, 3] += [0.2, 0, 0]
    assert "origin" in grid_difference(_header(moved), _header(OBLIQUE))


def test_units_other_than_mm_are_a_note() -> None:
    data = bytearray(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE).to_bytes()[:544])
    data[123] = 3
    assert any("micrometers" in finding.problem for finding in parse_header(bytes(data), "a").findings)


def test_sheared_axes_are_a_note() -> None:
    sheared = AFFINE.copy()
    sheared[0, 1] = 2 * np.tan(np.radians(10))
    data = bytearray(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), sheared).to_bytes()[:544])
    assert any("10.0° off" in finding.problem for finding in parse_header(bytes(data), "a").findings)


def _survives(path: Path) -> None:
    """Either one line of refusal, or nibabel reads the same numbers."""
    try:
        array, affine, spacing_mm = read_volume(path, max_bytes=1 << 22)
    except DatasetError:
        return
    assert np.isfinite(affine).all()
    assert min(spacing_mm) > 0
    reference = nib.load(path)
    np.testing.assert_array_equal(array, np.asarray(reference.dataobj).reshape(array.shape))


def _mutate_headers(tmp_path: Path, times: int) -> None:
    rng = np.random.default_rng(0)
    data = nib.Nifti1Image(image_array(), OBLIQUE).to_bytes()
    path = tmp_path / "a.nii"
    for _ in range(times):
        mutated = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(0, 352))
            mutated[at] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)]))
        path.write_bytes(mutated)
        _survives(path)


def _mutate_streams(tmp_path: Path, times: int) -> None:
    rng = np.random.default_rng(1)
    data = gzip.compress(nib.Nifti1Image(image_array(), AFFINE).to_bytes(), mtime=0)
    path = tmp_path / "a.nii.gz"
    for _ in range(times):
        mutated = bytearray(data)
        kind = rng.integers(4)
        at = int(rng.integers(len(mutated)))
        if kind == 0:
            del mutated[at:]
        elif kind == 1:
            del mutated[at : at + int(rng.integers(1, 50))]
        elif kind == 2:
            mutated[at:at] = rng.bytes(int(rng.integers(1, 50)))
        else:
            mutated[at] ^= int(rng.integers(1, 256))
        path.write_bytes(mutated)
        _survives(path)


@pytest.mark.filterwarnings("ignore")
def test_300_mutated_headers_are_refused_or_read_as_nibabel_does(tmp_path: Path) -> None:
    _mutate_headers(tmp_path, 300)


@pytest.mark.filterwarnings("ignore")
def test_200_mutated_gzip_streams_are_refused_or_read_as_nibabel_does(tmp_path: Path) -> None:
    _mutate_streams(tmp_path, 200)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_10000_mutated_headers_and_5000_mutated_gzip_streams(tmp_path: Path) -> None:
    _mutate_headers(tmp_path, 10_000)
    _mutate_streams(tmp_path, 5_000)


def test_many_empty_gzip_members_do_not_stall(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(b"") * 20_000)
    with pytest.raises(DatasetError, match="empty gzip members"):
        read_nifti(path)


def test_at_least_34_kinds_of_malformed_pairs_are_known() -> None:
    assert len(MALFORMED) >= 34


def test_nifti_2_header_is_read(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(image_array(), OBLIQUE), tmp_path / "a.nii")
    header = read_nifti(tmp_path / "a.nii").header
    assert header.voxels_at == 544
    np.testing.assert_allclose(header.affine, OBLIQUE)
    assert struct.calcsize("<f") == header.dtype.itemsize
