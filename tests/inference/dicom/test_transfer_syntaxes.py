"""Every transfer syntax that scanners and archives use is decoded, by packages whose license allows distribution."""

import signal

import gdcm
import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_series import slices, write
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import (
    JPEG2000,
    UID,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from pipeline.inference.dicom import DicomError, find_series, to_nifti
from pipeline.inference.dicom.gdcm_process import Frame, GdcmProcess

SHAPE = (3, 40, 36)
LOSSLESS = [RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLossless, JPEGLosslessSV1]
LOSSY = {JPEGBaseline8Bit: 8, JPEGExtended12Bit: 12, JPEGLSNearLossless: 12, JPEG2000: 12}
"""Stored bits of the test images, the maximum of each syntax."""

BY_GDCM = {
    JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    JPEGBaseline8Bit: gdcm.TransferSyntax.JPEGBaselineProcess1,
    JPEGExtended12Bit: gdcm.TransferSyntax.JPEGExtendedProcess2_4,
    JPEGLSNearLossless: gdcm.TransferSyntax.JPEGLSNearLossless,
    JPEG2000: gdcm.TransferSyntax.JPEG2000,
}


def smooth(bits: int) -> np.ndarray:
    """Return waves (slices, rows, columns) over the range of these bits, which lossy syntaxes preserve well."""
    z, y, x = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    waves = 0.5 + 0.25 * np.sin(x / 7 + z) + 0.2 * np.cos(y / 9 - z)
    return np.round(waves * (2**bits - 1)).astype(np.uint16)


def compressed(tmp_path, syntax: UID, array: np.ndarray, bits: int):
    """Return a folder with a series in this syntax."""
    datasets = slices(array.astype(np.uint16))
    for dataset in datasets:
        if bits <= 8:
            dataset.set_pixel_data(array[datasets.index(dataset)].astype(np.uint8), "MONOCHROME2", 8)
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, 0
        if syntax not in BY_GDCM:
            dataset.compress(syntax, generate_instance_uid=False)
    folder = write(tmp_path / "s", datasets)
    if syntax in BY_GDCM:
        for path in folder.iterdir():
            _compress_by_gdcm(str(path), BY_GDCM[syntax])
    assert {pydicom.dcmread(path).file_meta.TransferSyntaxUID for path in folder.iterdir()} == {syntax}
    return folder


def _compress_by_gdcm(path: str, syntax: int) -> None:
    reader = gdcm.ImageReader()
    reader.SetFileName(path)
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change(), "gdcm cannot write this syntax"
    writer = gdcm.ImageWriter()
    writer.SetFileName(path)
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def we_read(folder) -> np.ndarray:
    (case,) = find_series(folder)
    return np.asarray(nib.load(to_nifti(case, folder.parent / "volume.nii.gz")).dataobj).transpose()


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.keyword)
def test_a_lossless_series_is_the_series_before_compression(tmp_path, syntax, bits):
    array = np.random.default_rng(0).integers(0, 2**bits, SHAPE).astype(np.uint16)
    np.testing.assert_array_equal(we_read(compressed(tmp_path, syntax, array, bits)), array)


@pytest.mark.parametrize("syntax", LOSSY, ids=lambda uid: uid.keyword)
def test_a_lossy_series_is_close_to_the_series_before_compression(tmp_path, syntax):
    bits = LOSSY[syntax]
    array = smooth(bits)
    found = we_read(compressed(tmp_path, syntax, array, bits))
    assert np.abs(found - array).max() <= 0.03 * 2**bits
    assert np.ptp(array) > 0.5 * 2**bits


def test_high_throughput_jpeg_2000_has_a_decoder():
    assert get_decoder(HTJ2KLossless).is_available


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_jpeg_of_12_bits_by_another_encoder_is_decoded_as_libjpeg_does(name):
    """The expected values are those of libjpeg for the first file; the second is the same image, slightly malformed."""
    image = pydicom.dcmread(file_of_pydicom(name))
    assert (image.file_meta.TransferSyntaxUID, image.BitsStored) == (JPEGExtended12Bit, 12)
    found = image.pixel_array
    assert found.mean() == pytest.approx(14.383, abs=0.05)
    assert np.abs(found[::128, 128].astype(int) - [1, 20, 68, 56, 14, 1, 1, 1]).max() <= 1
    assert np.abs(found[420, 100:104].astype(int) - [42, 43, 42, 41]).max() <= 1


def test_jpeg_ls_by_another_encoder_is_the_uncompressed_image():
    found = pydicom.dcmread(file_of_pydicom("MR_small_jpeg_ls_lossless.dcm")).pixel_array
    np.testing.assert_array_equal(found, pydicom.dcmread(file_of_pydicom("MR_small.dcm")).pixel_array)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("syntax", [*LOSSLESS, *LOSSY], ids=lambda uid: uid.keyword)
def test_a_truncated_frame_is_an_error_and_never_other_pixels(tmp_path, syntax, share):
    bits = LOSSY.get(syntax, 12)
    image = pydicom.dcmread(compressed(tmp_path, syntax, smooth(bits), bits) / "f0")
    (frame,) = generate_frames(image.PixelData, number_of_frames=1)
    image.PixelData = encapsulate([frame[: int(share * len(frame))] + b"\0\0"])
    with pytest.raises((RuntimeError, ValueError)):
        _ = image.pixel_array


@pytest.mark.parametrize(
    ("marker", "offset", "value"), [(b"\xff\xc4", 1, 0), (b"\xff\xc3", 4, 255)], ids=["aborts", "faults"]
)
def test_a_frame_that_terminates_gdcm_is_an_error_and_the_next_one_is_decoded(tmp_path, marker, offset, value):
    array = smooth(12)
    folder = compressed(tmp_path, JPEGLosslessSV1, array, 12)
    image = pydicom.dcmread(folder / "f0")
    (frame,) = generate_frames(image.PixelData, number_of_frames=1)
    damaged = bytearray(frame)
    damaged[frame.index(marker) + offset] = value
    with pytest.raises(ValueError, match="GDCM ended with code -"):
        GdcmProcess().decode(Frame(str(JPEGLosslessSV1), *SHAPE[1:], 16, 12, 0), bytes(damaged))

    np.testing.assert_array_equal(we_read(folder), array)
    image.PixelData = encapsulate([bytes(damaged)])
    image.save_as(folder / "f0")
    with pytest.raises(DicomError, match="cannot be decoded"):
        we_read(folder)


def test_gdcm_is_called_in_no_other_way():
    for syntax in (*LOSSLESS, *LOSSY):
        assert "gdcm" not in get_decoder(syntax).available_plugins


def test_a_frame_that_takes_too_long_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "gdcm.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ValueError, match=f"GDCM ended with code -{int(signal.SIGALRM)}"):
        GdcmProcess(limit_s=1).decode(Frame(str(JPEGLosslessSV1), 4, 4, 16, 12, 0), b"frame")


def file_of_pydicom(name: str) -> str:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"{name} does not come with this version of pydicom")
    return str(path)
