"""Random numbers that depend on what is drawn, never on when, where or beside what.

Every generator is NumPy's Philox, keyed by a 128-bit hash of ``(seed, purpose, object id)``.
So the same galaxy gets the same numbers alone, in any batch, on any worker, after any retry.

Reference: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3",
https://doi.org/10.1145/2063384.2063405
"""

__all__ = ["derived_seed", "generator", "standard_normals"]

import hashlib
import json
import operator
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
    parts = [operator.index(seed), purpose, *(str(k) if isinstance(k, str) else operator.index(k) for k in key)]
    # JSON keeps apart what plain joining would not: 1 and "1", ("a", "b") and ("a,b",).
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def derived_seed(seed: int, purpose: str, *key: int | str) -> int:
    """Return another seed, of 63 bits, for what can only be seeded by one number; parameters as of `generator`.

    Seeds made by arithmetic (a thousand times the seed, plus k) meet each other, and those that users choose.
    """
    return int(generator(seed, purpose, *key).integers(2**63))


def standard_normals(seed: int, purpose: str, ids: Sequence[int] | Sequence[str] | Array, shape: tuple[int, ...]) -> Array:
    """Draw one float32 block of standard normals per id, each from that id's own stream.

    Returns
    -------
    ndarray
        ``(len(ids), *shape)`` float32.
    """
    out = np.empty((len(ids), *shape), np.float32)
    for row, identity in enumerate(np.asarray(ids).tolist()):
        out[row] = generator(seed, purpose, identity).standard_normal(shape, dtype=np.float32)
    return out
