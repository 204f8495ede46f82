"""GDCM in a process of its own, which decodes JPEG frames one after another.

A damaged frame can end the process that calls GDCM, since its C++ exceptions are not caught on the way to Python. Here
it ends this process alone: the frame is an error, and the next one gets a new process. What GDCM prints is dropped.

This file is also the program that runs there. It imports nothing of this project, so that it starts in 0.1 s.
"""

import signal
import struct
import subprocess
import sys
from threading import Lock
from typing import IO, NamedTuple

_LENGTH = struct.Struct("<I")


class Frame(NamedTuple):
    """What GDCM has to know of one encoded grayscale frame besides its bytes.

    `syntax` is the UID of the transfer syntax; `is_signed` is 0 or 1.
    """

    syntax: str
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    is_signed: int


_FRAME = struct.Struct("<64s5I")


class GdcmProcess:
    """Starts the process when the first frame comes, and again where it has ended.

    A frame that takes more than `limit_s` seconds ends it.
    """

    def __init__(self, limit_s: int = 60) -> None:
        self.limit_s = limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()

    def decode(self, frame: Frame, encoded: bytes) -> bytes:
        """Return the pixels of a frame, row by row, in little endian.

        Raises
        ------
        ValueError
            When GDCM cannot decode the frame, ends, or takes longer than `limit_s`.
        """
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(_FRAME.pack(frame.syntax.encode(), *frame[1:]))
                _send(process.stdin, encoded)
                pixels = _receive(process.stdout)
            except (OSError, EOFError):
                self._process = None
                process.kill()
                process.communicate()
                raise ValueError(f"GDCM ended with code {process.returncode} on this frame") from None
        if len(pixels) != frame.rows * frame.columns * frame.bits_allocated // 8:
            raise ValueError("GDCM cannot decode this frame")
        return pixels

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(self.limit_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process


def _send(stream: IO[bytes], data: bytes) -> None:
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes:
    return _exactly(stream, _LENGTH.unpack(_exactly(stream, _LENGTH.size))[0])


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError
    return data


def _serve(reading: IO[bytes], writing: IO[bytes], limit_s: int) -> None:
    """Decode what comes until the other end is closed, as it is when the program there ends."""
    # Ctrl-C and SIGTERM go to all processes of a batch, which still finishes the case at hand.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    while len(head := reading.read(_FRAME.size)) == _FRAME.size:
        syntax, *numbers = _FRAME.unpack(head)
        encoded = _receive(reading)
        signal.alarm(limit_s)
        pixels = _decoded(Frame(syntax.rstrip(b"\0").decode(), *numbers), encoded)
        signal.alarm(0)
        _send(writing, pixels)


def _decoded(frame: Frame, encoded: bytes) -> bytes:
    """Return the pixels, b"" where GDCM says that it cannot decode them."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(encoded)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())

    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((frame.columns, frame.rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(frame.syntax)))
    image.SetPixelFormat(
        gdcm.PixelFormat(1, frame.bits_allocated, frame.bits_stored, frame.bits_stored - 1, frame.is_signed)
    )
    pixels = image.GetBuffer()
    # GDCM hands bytes over as text.
    return b"" if pixels is None else bytes(pixels.encode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]))
