"""The direction and ellipticity that a galaxy's pixels show: where a fit of its shape can start. Plain NumPy."""

import numpy as np

THRESHOLD = 1.5
"""In units of the noise; pixels below say nothing of the shape."""
REACH = 12
"""Pixels from the middle of the stamp; beyond is noise."""
FEWEST = 5
"""Pixels above the threshold, without which there is no shape."""
LARGEST = 0.7


def shape_of_pixels(image: np.ndarray, rms: np.ndarray) -> tuple[float, float] | None:
    """Return the position angle of the major axis, degrees from +y towards -x, and ``1 - q``, by second moments; None without pixels.

    Through the PSF galaxies are rounder than they are, and noise makes faint ones longer.
    """
    y, x = np.indices(image.shape) - (np.array(image.shape)[:, None, None] - 1) / 2
    some = (image > THRESHOLD * rms) & (np.hypot(x, y) < REACH)
    if some.sum() < FEWEST:
        return None
    weight = image[some] / image[some].sum()
    places = np.stack([x[some], y[some]])
    places -= (places @ weight)[:, None]
    (xx, xy), (_, yy) = (places * weight) @ places.T
    minor, major = np.linalg.eigvalsh([[xx, xy], [xy, yy]])
    angle = np.degrees(0.5 * np.arctan2(2 * xy, xx - yy)) - 90
    return float(angle), float(np.clip(1 - np.sqrt(max(minor, 0.0) / major), 0.05, LARGEST))
