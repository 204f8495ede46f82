"""GDCM in a separate process, which decodes JPEG frames one after another.

A damaged frame can terminate the process that calls GDCM, since its C++ exceptions are not translated to Python. Here
only the separate process is terminated: the frame is an error, and the next frame gets a new process. GDCM's output is
discarded.

This file is also the program of that process. It imports nothing of this project, so that it starts in 0.1 s.
"""

import signal
import struct
import subprocess
import sys
from threading import Lock
from typing import IO, NamedTuple

_LENGTH = struct.Struct("<I")


class Frame(NamedTuple):
    """Description of one encoded grayscale frame.

    Parameters
    ----------
    syntax
        UID of the transfer syntax.
    rows, columns
        Size in pixels.
    bits_allocated, bits_stored
        Bits of a pixel, and those of them that are used.
    is_signed
        1 for signed pixels, 0 for unsigned ones.
    """

    syntax: str
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    is_signed: int


_FRAME = struct.Struct("<64s5I")


class GdcmProcess:
    """The decoding process, which is started with the first frame and again after it has ended.

    Parameters
    ----------
    limit_s
        Seconds after which the decoding of a frame is aborted.
    """

    def __init__(self, limit_s: int = 60) -> None:
        self.limit_s = limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()

    def decode(self, frame: Frame, encoded: bytes) -> bytes:
        """Return the pixels of a frame, row by row, in little endian.

        Parameters
        ----------
        frame
            Description of the frame.
        encoded
            Its encoded bytes.

        Raises
        ------
        ValueError
            When GDCM cannot decode the frame, is terminated by it, or takes longer than `limit_s`.
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
    """Decode frames until the other end of the pipe is closed, at the latest when the calling program ends."""
    # Ctrl-C and SIGTERM reach all processes of a batch, but the batch still completes its current case.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # Windows has no alarm: there, a frame that GDCM never finishes stops the batch.
    set_alarm = getattr(signal, "alarm", lambda seconds: None)
    while len(head := reading.read(_FRAME.size)) == _FRAME.size:
        syntax, *numbers = _FRAME.unpack(head)
        encoded = _receive(reading)
        set_alarm(limit_s)
        pixels = _decoded(Frame(syntax.rstrip(b"\0").decode(), *numbers), encoded)
        set_alarm(0)
        _send(writing, pixels)


def _decoded(frame: Frame, encoded: bytes) -> bytes:
    """Return the pixels, or b"" if GDCM reports that it cannot decode them."""
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
    # GDCM returns bytes as text, with surrogates for those that are not UTF-8.
    return b"" if pixels is None else bytes(pixels.encode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]))
