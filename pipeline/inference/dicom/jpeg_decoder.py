"""A pydicom decoder of JPEG Lossless, and of JPEG Extended with 12 bits: GDCM in a separate process.

pydicom's own decoder by GDCM is removed for two reasons: a damaged frame terminates the whole program, and it refuses
12 bits, which older versions of GDCM decoded wrongly. The alternative, libjpeg, is under the GPL and decodes a
truncated frame without an error.
"""

from pydicom.pixels import decoders
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

from pipeline.inference.dicom.gdcm_process import Frame, GdcmProcess

DECODER_DEPENDENCIES = {syntax: ("gdcm>=3.2",) for syntax in (JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)}
"""Required packages by transfer syntax; pydicom expects this name in the module of a decoder."""

_GDCM = GdcmProcess()


def register_decoder() -> None:
    """Make pydicom, and so highdicom, decode these syntaxes by `decode_frame`, and nothing by GDCM in this process."""
    for decoder in (
        decoders.JPEGBaseline8BitDecoder,
        decoders.JPEGExtended12BitDecoder,
        decoders.JPEGLosslessDecoder,
        decoders.JPEGLosslessSV1Decoder,
        decoders.JPEGLSLosslessDecoder,
        decoders.JPEGLSNearLosslessDecoder,
        decoders.JPEG2000LosslessDecoder,
        decoders.JPEG2000Decoder,
    ):
        if "gdcm" in decoder.available_plugins:
            decoder.remove_plugin("gdcm")
        if is_available(decoder.UID):
            decoder.add_plugin("whichloss", (__name__, decode_frame.__name__))


def is_available(uid: str) -> bool:
    """Return whether frames of this transfer syntax can be decoded; pydicom calls this function by its name."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Return the pixels of one encoded grayscale frame, row by row, with the allocated bits of the header.

    Parameters
    ----------
    src
        The encoded bytes.
    runner
        pydicom's description of the frame.

    Raises
    ------
    ValueError
        When GDCM cannot decode the frame, or it is in color.
    """
    if runner.samples_per_pixel != 1 or runner.bits_allocated not in (8, 16):
        raise ValueError("only grayscale frames with 8 or 16 allocated bits are supported")
    frame = Frame(
        str(runner.transfer_syntax),
        runner.rows,
        runner.columns,
        runner.bits_allocated,
        runner.bits_stored,
        runner.pixel_representation,
    )
    return _GDCM.decode(frame, src)
