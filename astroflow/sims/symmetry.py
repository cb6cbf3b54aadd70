"""The eight flips and quarter turns of a square image, and what they do to its parameters.

A turn is a transpose (x and y change places), then a flip along x, then a flip along y. Under them a position
(dx, dy) turns as a vector; an ellipticity (e1, e2) has e1 -> -e1 under the transpose and e2 -> -e2 under each flip.
"""

__all__ = ["TURNS", "turn_images"]

import itertools

import numpy as np

TURNS: tuple[tuple[bool, bool, bool], ...] = tuple(itertools.product((False, True), (False, True), (False, True)))
"""(transpose, flip x, flip y) of each of the eight turns; number 0 changes nothing."""


def turn_images(images: np.ndarray, turn: int) -> np.ndarray:
    """Turn square images whose last two axes are (y, x)."""
    transpose, flip_x, flip_y = TURNS[turn]
    if transpose:
        images = np.swapaxes(images, -1, -2)
    if flip_x:
        images = images[..., ::-1]
    if flip_y:
        images = images[..., ::-1, :]
    return images
