"""Read thousands of files and check the limits of a reader."""

import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterable

from pipeline.errors import SeglossError

LONGEST_S = 10.0
"""Maximum CPU time in seconds for one file."""


def times(few: int, many: int) -> int:
    """Return the number of files: `many`, unless the environment variable FUZZ_FILES gives another one."""
    return int(os.environ.get("FUZZ_FILES", many)) if many != few else few


def watch(files: Iterable[bytes], read: Callable[[bytes], str], memory_bytes: int) -> str:
    """Read every file and return a summary in one line.

    `read` returns a word for how a file was taken, and raises a `SeglossError` where it is refused; any other error
    comes through with the file's number. No file may take longer than `LONGEST_S`, and all together no more than
    `memory_bytes` beyond what the first hundred took.
    """
    outcomes: Counter[str] = Counter()
    longest = 0.0
    least = 0
    for index, content in enumerate(files):
        began = time.process_time()
        try:
            outcomes[read(content)] += 1
        except SeglossError as error:
            outcomes["refused" if "\n" not in str(error) else "refused in several lines"] += 1
        except BaseException as error:
            error.add_note(f"file {index}, {len(content)} bytes")
            raise
        longest = max(longest, time.process_time() - began)
        assert longest < LONGEST_S, f"file {index} took {longest:.1f} s"
        if index == 100:
            least = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - least) * 1024
    assert not least or grown < memory_bytes, f"memory grew by {grown / 2**20:.0f} MiB"
    assert "refused in several lines" not in outcomes
    counts = ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items()))
    return f"{outcomes.total()} files: {counts}; longest {longest:.3f} s; memory grew by {grown / 2**20:.1f} MiB"


def mutated(data: bytes, random, low: int, high: int, most: int) -> bytes:  # type: ignore[no-untyped-def]
    """Return `data` with one to `most` bytes between `low` and `high` changed to special or random values."""
    found = bytearray(data)
    for _ in range(random.integers(1, most + 1)):
        found[int(random.integers(low, high))] = int(random.choice([0, 1, 127, 128, 255, random.integers(256)]))
    return bytes(found)


def cut_or_changed(data: bytes, random) -> bytes:  # type: ignore[no-untyped-def]
    """Return `data` truncated, with bytes removed, with bytes inserted, or with one byte changed."""
    found = bytearray(data)
    at = int(random.integers(len(found)))
    match int(random.integers(4)):
        case 0:
            del found[at:]
        case 1:
            del found[at : at + int(random.integers(1, 50))]
        case 2:
            found[at:at] = random.bytes(int(random.integers(1, 50)))
        case _:
            found[at] ^= int(random.integers(1, 256))
    return bytes(found)
