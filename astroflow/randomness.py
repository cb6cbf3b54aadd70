"""Random numbers that depend on what is drawn, never on when, where or beside what.

Every generator is NumPy's Philox, keyed by a 128-bit hash of ``(seed, purpose, object id)``.
So the same galaxy gets the same numbers alone, in any batch, on any worker, after any retry.

Reference: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3",
https://doi.org/10.1145/2063384.2063405
"""

__all__ = ["generator", "standard_normals"]

import hashlib
from collections.abc import Sequence

import numpy as np

from astroflow.types import Array


def generator(seed: int, purpose: str, *key: int | str) -> np.random.Generator:
    """Return the generator that belongs to ``(seed, purpose, key)``.

    Parameters
    ----------
    seed : int
        The run's seed.
    purpose : str
        What the numbers are for, for instance ``"theta"``: two purposes never share a stream.
    *key : int or str
        What they belong to, usually one object id. The integer 1 and the string "1" are different keys.
    """
    parts = [int(seed), purpose, *(k if isinstance(k, str) else int(k) for k in key)]
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def standard_normals(seed: int, purpose: str, ids: Sequence | Array, shape: tuple[int, ...]) -> Array:
    """Draw one float32 block of standard normals per id, each from that id's own stream.

    Returns
    -------
    ndarray
        ``(len(ids), *shape)`` float32.
    """
    out = np.empty((len(ids), *shape), np.float32)
    for row, identity in zip(out, np.asarray(ids).tolist(), strict=True):
        generator(seed, purpose, identity).standard_normal(out=row, dtype=np.float32)
    return out
