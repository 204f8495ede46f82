"""One place for all random-number streams.

Every draw comes from a stream named by what it is for, e.g. ``stream(seed, "patch", fold, draw)``. Streams do not
depend on one another, on the order in which they are made, on the number of workers or on the loss.
"""

import hashlib

import numpy as np


def derived_seed(seed: int, *words: str | int) -> int:
    """Return a 63-bit seed that depends on `seed` and every word, the same on every machine."""
    text = "\x1f".join([str(seed), *(str(word) for word in words)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stream(seed: int, *words: str | int) -> np.random.Generator:
    """Return an independent numpy generator for the purpose named by `words`."""
    return np.random.Generator(np.random.PCG64(derived_seed(seed, *words)))
