"""JPEG Extended with 12 bits, decoded by GDCM.

pydicom's own plugin for GDCM refuses images of 12 bits in this transfer syntax, since older versions of GDCM decoded
them wrongly; the alternative, libjpeg, is under the GPL. GDCM writes "Unsupported JPEG data precision 12" to stderr for
each image, where it looks at the header by its decoder for 8 bits first; the image is decoded all the same.
"""

import gdcm
from pydicom.pixels.decoders import JPEGExtended12BitDecoder
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import JPEGExtended12Bit

DECODER_DEPENDENCIES = {JPEGExtended12Bit: ("gdcm>=3.2",)}


def register_decoder() -> None:
    """Let pydicom, and so highdicom, try `decode_frame` where its own plugins refuse a frame."""
    JPEGExtended12BitDecoder.add_plugin("segloss", (__name__, decode_frame.__name__))


def is_available(uid: str) -> bool:
    """Return whether frames of this transfer syntax can be decoded; pydicom asks."""
    return uid == JPEGExtended12Bit


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Return the pixels of one encoded grayscale frame, 16 bits each, row by row.

    Raises
    ------
    ValueError
        When GDCM cannot decode the frame, or it is in color.
    """
    if runner.samples_per_pixel != 1 or runner.bits_allocated != 16:
        raise ValueError("only grayscale frames with 16 bits allocated are decoded here")
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(src)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())

    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    interpretation = gdcm.PhotometricInterpretation.GetPIType(str(runner.photometric_interpretation))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(interpretation))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(
        gdcm.PixelFormat(1, 16, runner.bits_stored, runner.bits_stored - 1, runner.pixel_representation)
    )
    pixels = image.GetBuffer()
    if pixels is None:
        raise ValueError("GDCM cannot decode this frame")
    # GDCM hands bytes over as text.
    return bytes(pixels.encode("utf-8", "surrogateescape"))
