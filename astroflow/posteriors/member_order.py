"""Which member of an ensemble makes which draw: every member once in each block of draws, in an order that chance gives them.

With a fixed order the first draw would always be the first member's, and whoever looks at a few draws would not see the mixture.
The order follows from the first base normals of a row, which belong to that row alone. So it is the same in any company, and the first
draws of many are those of few.
"""

__all__ = ["member_order"]

import numpy as np

from astroflow.randomness import generator
from astroflow.types import Array


def member_order(noise: Array, members: int) -> Array:
    """Return the member ``(N, B, M)`` of each draw, for as many blocks of M draws as S draws need.

    Parameters
    ----------
    noise : ndarray
        ``(N, S, D)`` base normals.
    members : int
        How many, M.
    """
    n, draws, _ = noise.shape
    chance = np.empty((n, -(-draws // members), members))
    if draws:
        for row, first in enumerate(np.ascontiguousarray(noise[:, 0], "<f4")):
            chance[row] = generator(0, "member order", first.tobytes().hex()).random(chance.shape[1:])
    return np.asarray(np.argsort(chance, axis=2))
