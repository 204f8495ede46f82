"""Independent random-number streams, each named by its purpose.

Every random draw of the project comes from such a stream, e.g. ``stream(seed, "patch", fold, draw)``. A stream depends
on the seed and its name alone: not on other streams, the order in which they are created, the number of workers or the
loss. So runs of one fold and seed see the same patches and augmentations whatever their loss.
"""

import hashlib

import numpy as np


def derived_seed(seed: int, *words: str | int) -> int:
    """Return a 63-bit seed that depends on `seed` and every word, the same on every machine.

    Examples
    --------
    >>> derived_seed(0, "patch", 1) == derived_seed(0, "patch", 1) != derived_seed(0, "patch", 2)
    True
    """
    # Python's own hash() of strings differs between processes. The separator keeps ("ab", "c") apart from ("a", "bc").
    text = "\x1f".join([str(seed), *(str(word) for word in words)])
    # One bit less than the digest, since torch takes signed 64-bit seeds.
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stream(seed: int, *words: str | int) -> np.random.Generator:
    """Return an independent numpy generator for the purpose that `words` name.

    Examples
    --------
    >>> float(stream(0, "patch", 1).random()) == float(stream(0, "patch", 1).random())
    True
    """
    # PCG64 is named instead of default_rng, whose generator may change with numpy and with it every recorded draw.
    return np.random.Generator(np.random.PCG64(derived_seed(seed, *words)))
