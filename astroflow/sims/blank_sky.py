"""Noise correlation measured on blank sky: what a survey's pixels have in common where there is nothing to see.

Sources are masked, the background is taken off, and products of pixels at each lag are averaged over all pairs of which both are left. What
each step does to the answer:

- Masking. Pixels of the smoothed image beyond four sigma are masked on both sides, with their surroundings, again and again until nothing
  is found. Clipping both sides leaves the mean alone; the few peaks of pure noise that go with it take less than 0.01 off the correlation
  of neighbours. Sources too faint to be found stay, and add a correlation as wide as the PSF: their share is that of their variance in
  the noise's.
- Background. The mean in boxes of `background_pixels` is taken off, so correlations on that scale and beyond are lost. A shorter one, r,
  becomes smaller by about ``(1 - r) S / background_pixels ** 2``, more towards the boxes' side, where S is the sum of the correlation over
  all lags: 0.001 for drizzled noise with S = 5.
- Pair counts. Each lag is divided by its own number of pairs, so masks and borders leave no trace.
- Depth. An image whose noise varies has to be divided by its rms map first, or deep parts count less; the correlation is that of the ratio.

Standard errors come from the jackknife: leaving out one block of the image at a time.

References
----------
Rowe et al. 2015, https://arxiv.org/abs/1407.7676 (GalSim, whose `CorrelatedNoise` measures on images given as blank); Efron 1981,
https://doi.org/10.1093/biomet/68.3.589 (jackknife).
"""

__all__ = ["MeasuredCorrelation", "measure_noise_correlation"]

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import ndimage, stats
from scipy.signal import correlate

from astroflow.errors import InputError
from astroflow.types import Array

SMOOTHING = 1.5
"""Sigma of the Gaussian that sources are searched with, pixels."""
WINGS = 2.0
"""Sigmas down to which the surroundings of what is found belong to it."""
GROWTH = 4
"""Pixels that are masked around it besides."""
MAX_ROUNDS = 20
LEAST_PAIRS = 1000
BLOCKS = 36
"""About so many blocks of all images are left out in turn."""
LEAST_BLOCKS = 4
WHITE_LAGS = 2
WHITE_CHANCE = 1e-3
MASKING_ERROR = 0.005
"""What finding sources may do to a correlation, and what matters to nobody."""


class MeasuredCorrelation(NamedTuple):
    """What blank sky says of the noise."""

    correlation: Array
    """``(L, L)`` float64, one in the middle, the same at opposite lags. A measured map may have a little negative power."""
    error: Array
    """``(L, L)`` standard errors, zero in the middle."""
    rms: float
    """Standard deviation of the pixels that were used: image unit, or rms units where an rms map was given."""
    pixels: int
    """How many pixels were used."""

    @property
    def is_white(self) -> bool:
        """Whether lags up to two pixels are what independent noise gives: a chi-squared that one such image in a thousand exceeds."""
        middle = len(self.error) // 2
        reach = min(WHITE_LAGS, middle)
        near = np.s_[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]
        # each lag and its opposite are one number, and lag 0 says nothing
        ratios = (self.correlation[near] / np.hypot(self.error[near], MASKING_ERROR)).ravel()[: (2 * reach + 1) ** 2 // 2]
        return bool((ratios**2).sum() < stats.chi2.isf(WHITE_CHANCE, len(ratios)))


def measure_noise_correlation(
    images: Array | Sequence[Array],
    mask: Array | Sequence[Array | None] | None = None,
    max_lag: int = 10,
    *,
    rms: Array | Sequence[Array | None] | None = None,
    background_pixels: int = 64,
    clip: float = 4.0,
) -> MeasuredCorrelation:
    """Measure the noise correlation of one image, or of several of one survey together.

    Parameters
    ----------
    images : ndarray or sequence of ndarray
        ``(H, W)`` each; pixels that are not finite are ignored.
    mask : ndarray or sequence, optional
        True (or not zero) = ignore, of the images' shapes: known sources, bad pixels.
    max_lag : int
        The longest lag along each axis, pixels.
    rms : ndarray or sequence, optional
        Noise maps; images are divided by them.
    background_pixels : int
        Side of the boxes whose mean is taken off. A small image has its own mean taken off.
    clip : float
        Sigmas beyond which pixels of the smoothed image are sources, or holes.

    Raises
    ------
    InputError
        If shapes disagree, or too little blank sky is left.
    """
    if max_lag < 1:
        raise InputError(f"`max_lag` must be at least 1 pixel; got {max_lag}")
    if background_pixels < 4 * max_lag:
        raise InputError(f"`background_pixels` must be at least four times `max_lag` = {max_lag}; got {background_pixels}")
    pictures, masks, maps = (_listed(what) for what in (images, mask, rms))
    if not pictures or any(given and len(given) != len(pictures) for given in (masks, maps)):
        raise InputError(f"expected images, and a mask and an rms map for each; got {len(pictures)}, {len(masks)} and {len(maps)}")
    skies = [
        _blank_sky(picture, masks[i] if masks else None, maps[i] if maps else None, background_pixels, clip)
        for i, picture in enumerate(pictures)
    ]
    each = max(1, round(np.sqrt(BLOCKS / len(skies))))
    parts = [_pairs(values, good, max_lag, each) for values, good in skies]
    products, counts = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    # blocks that hold next to nothing would only add a zero
    used = counts[:, 0, max_lag] > 0
    products, counts = products[used], counts[used]
    total, fewest = counts.sum(0), int(counts.sum(0).min())
    if fewest < LEAST_PAIRS or len(counts) < LEAST_BLOCKS:
        raise InputError(
            f"too little blank sky: {fewest} pairs of pixels at the rarest lag, in {len(counts)} blocks; {LEAST_PAIRS} in {LEAST_BLOCKS} "
            "are needed. Give a larger image, more images, or a smaller `max_lag`"
        )
    power = float(products[:, 0, max_lag].sum() / total[0, max_lag])
    if not power > 0:
        raise InputError("the blank sky is constant: there is no noise in it")
    left_out = _ratio(products.sum(0) - products, total - counts)
    n = len(left_out)
    error = np.sqrt((n - 1) / n * ((left_out - left_out.mean(0)) ** 2).sum(0))
    correlation = _ratio(products.sum(0), total)
    return MeasuredCorrelation(_unfolded(correlation), _unfolded(error), float(np.sqrt(power)), int(total[0, max_lag]))


def _listed(given: Array | Sequence[Array | None] | None) -> list[Array | None]:
    if given is None:
        return []
    return [given] if isinstance(given, np.ndarray) and given.ndim == 2 else list(given)


def _blank_sky(image: Array | None, mask: Array | None, rms: Array | None, box: int, clip: float) -> tuple[Array, Array]:
    """Return an image without its background, and which of its pixels are blank sky."""
    values = np.array(image, np.float64)
    if values.ndim != 2:
        raise InputError(f"an image must have two axes; got shape {values.shape}")
    for what, given in (("mask", mask), ("rms map", rms)):
        if given is not None and np.shape(given) != values.shape:
            raise InputError(f"the {what} has shape {np.shape(given)}, its image {values.shape}")
    good = np.isfinite(values)
    if rms is not None:
        good &= np.isfinite(rms) & (np.asarray(rms) > 0)
        values = values / np.where(good, rms, 1)
    if mask is not None:
        good &= np.asarray(mask) == 0
    values = np.where(good, values, 0)
    surroundings = np.hypot(*np.mgrid[-GROWTH : GROWTH + 1, -GROWTH : GROWTH + 1]) <= GROWTH
    for _ in range(MAX_ROUNDS):
        if not good.any():
            break
        flat = np.where(good, values - _background(values, good, box), 0)
        weight = ndimage.gaussian_filter(good.astype(np.float64), SMOOTHING, mode="constant")
        smooth = ndimage.gaussian_filter(flat, SMOOTHING, mode="constant") / np.maximum(weight, 1e-6)
        sigma = 1.4826 * np.median(np.abs(smooth[good]))
        found = good & (np.abs(smooth) > clip * sigma)
        # peaks of pure noise are found as well; to mask the few that are its due would make the noise smoother than it is
        if found.sum() <= 2 * stats.norm.sf(clip) * good.sum():
            break
        found = ndimage.binary_propagation(found, mask=good & (np.abs(smooth) > WINGS * sigma))
        good &= ~ndimage.binary_dilation(found, surroundings)
    if good.any():
        values = np.where(good, values - _background(values, good, box), 0)
    return values, good


def _background(values: Array, good: Array, box: int) -> Array:
    """Return the mean of the good pixels in a box about each pixel, or of all where the image is smaller than two boxes."""
    if min(values.shape) < 2 * box:
        return np.full(values.shape, values[good].mean())
    share = ndimage.uniform_filter(good.astype(np.float64), box, mode="constant")
    return np.asarray(ndimage.uniform_filter(np.where(good, values, 0), box, mode="constant") / np.maximum(share, 1e-9))


def _pairs(values: Array, good: Array, max_lag: int, blocks: int) -> tuple[Array, Array]:
    """Return sums of products and numbers of pairs by the block of the first pixel, each ``(blocks ** 2, max_lag + 1, 2 max_lag + 1)``.

    The lags are dy = 0 .. max_lag and dx = -max_lag .. max_lag.
    """
    beyond = ((0, max_lag), (max_lag, max_lag))
    edges = [np.unique(np.linspace(0, side, blocks + 1).astype(int)).tolist() for side in values.shape]
    sums = []
    for array in (values, good.astype(np.float64)):
        wide = np.pad(array, beyond)
        sums.append(
            [
                correlate(wide[y0 : y1 + max_lag, x0 : x1 + 2 * max_lag], array[y0:y1, x0:x1], mode="valid", method="fft")
                for y0, y1 in pairwise(edges[0])
                for x0, x1 in pairwise(edges[1])
            ]
        )
    return np.array(sums[0]), np.rint(sums[1])


def _ratio(products: Array, counts: Array) -> Array:
    """Return mean products over that of lag 0."""
    means = products / np.maximum(counts, 1)
    middle = means.shape[-1] // 2
    return np.asarray(means / means[..., :1, middle : middle + 1])


def _unfolded(half: Array) -> Array:
    """Return the whole map of the lags with dy of at least 0."""
    out = np.concatenate([half[:0:-1, ::-1], half])
    return np.asarray((out + out[::-1, ::-1]) / 2)
