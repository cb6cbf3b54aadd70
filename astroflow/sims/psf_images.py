"""PSF images as arrays: tidying real ones, changing their sampling, measuring them.

Real PSF images have negative wings, sums that are not one, even sides and centres that are off by a pixel. Any positive
finite sum is normalised and any centre is moved to the middle by a sub-pixel Fourier shift; both are reported, never silent.
All functions work on ``(N, B, h, w)`` arrays at once.
"""

__all__ = ["MEASURED", "PSFReport", "boxed", "measure_psf", "psf_at_stamp_scale", "tidy_psf"]

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SUM_TOLERANCE = 0.02
CENTRE_TOLERANCE_PIX = 0.1
SMALLEST_WEIGHT = 1.5  # pixel**2
LEAST_CONTRAST = 1.4
MEASURED = ("x", "y", "sigma", "e1", "e2", "kurtosis", "core")
STANDSTILL = 1e-6
"""A measurement ends when nothing moves by more than this share of the size."""
MOST_KEPT = 0.6
"""Where a step moves by more than this share of the one before it, nothing is extrapolated."""
AT_ONCE = 64


class PSFReport(NamedTuple):
    """Tidied PSF images and what had to be done, one entry per object (any band)."""

    images: np.ndarray
    """``(N, B, h, w)`` float32, odd sides, unit sum, centred; a delta function where `bad`."""
    bad: np.ndarray
    """``(N,)`` bool: not finite, no positive sum, or no core; unusable."""
    renormalised: np.ndarray
    """``(N,)`` bool: the sum was off by more than 2 %."""
    recentred: np.ndarray
    """``(N,)`` bool: the centre was off by more than 0.1 pixel, or the sides were even."""
    measured: dict[str, np.ndarray]
    """``(N, B)`` each: `measure_psf` of the normalised images before they were moved."""
    changed: np.ndarray
    """``(N,)`` bool: moved, or replaced by a delta function, so that `measured` is not of `images`."""


def _grid(h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(h)[:, None] - (h - 1) / 2, np.arange(w)[None, :] - (w - 1) / 2


def measure_psf(images: np.ndarray, iterations: int = 30) -> dict[str, np.ndarray]:
    """Measure centroid, size and shape with a matched elliptical Gaussian weight (adaptive moments).

    Returns
    -------
    dict
        Arrays of the leading shape: `x`, `y` (pixels from the image centre), `sigma` (pixels, of the matched Gaussian),
        `e1`, `e2` (reduced-shear type), `kurtosis` (weighted fourth moment; 2 for a Gaussian), `core` (flux share within 1.5 sigma).

    References
    ----------
    Bernstein & Jarvis 2002; Hirata & Seljak 2003, https://doi.org/10.1046/j.1365-8711.2003.06683.x
    """
    shape = images.shape[:-2]
    flat = np.asarray(images, np.float64).reshape(-1, *images.shape[-2:])
    # a few images at a time stay in the processor's cache
    parts = [_measured(flat[start : start + AT_ONCE], iterations) for start in range(0, len(flat), AT_ONCE)] or [_measured(flat, 1)]
    return {name: np.concatenate([part[name] for part in parts]).reshape(shape) for name in parts[0]}


def _measured(flat: np.ndarray, iterations: int) -> dict[str, np.ndarray]:
    """Measure images ``(N, h, w)``, each by itself: those that stand still are done."""
    h, w = flat.shape[-2:]
    if not len(flat):
        return {name: np.zeros(0) for name in MEASURED}
    peak = flat.reshape(len(flat), -1).argmax(1)
    area = (flat > 0.5 * flat.max((1, 2), keepdims=True)).sum((1, 2))
    var = np.clip(area / np.pi / (2 * np.log(2)), 0.3, (min(h, w) / 3) ** 2)
    # centre x, y and matched covariance xx, yy, xy
    found = np.array([peak % w - (w - 1) / 2, peak // w - (h - 1) / 2, var, var, np.zeros_like(var)])
    going, before = np.arange(len(flat)), np.zeros_like(found)
    for k in range(iterations):
        step = _matched(flat[going], found[:, going])
        size = np.sqrt(step[2] + step[3])
        move = step - found[:, going]
        # every other step goes where the last two lead
        found[:, going] = _extrapolated(step, move, before[:, going]) if k % 2 else step
        before[:, going] = move
        going = going[np.abs(move).max(0) > STANDSTILL * size]
        if not len(going):
            break
    rho2, weighted = _weighted(flat, found)
    total = _safe(weighted.sum((1, 2)))
    _, _, mxx, myy, mxy = found
    trace = mxx + myy
    root = np.sqrt(np.maximum(mxx * myy - mxy**2, 1e-8))
    values = (
        found[0], found[1], np.sqrt(root), (mxx - myy) / (trace + 2 * root), 2 * mxy / (trace + 2 * root),
        (weighted * rho2**2).sum((1, 2)) / total, np.where(rho2 < 1.5**2, flat, 0).sum((1, 2)) / _safe(flat.sum((1, 2))),
    )  # fmt: skip
    return dict(zip(MEASURED, values, strict=True))


def _safe(total: np.ndarray) -> np.ndarray:
    return np.where(np.abs(total) > 1e-12, total, 1e-12)


def _widened(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return xx and yy of the weight, whose xy is the matched covariance's."""
    # a weight as narrow as an undersampled PSF would shrink onto one pixel, so it stays at least a pixel wide
    widen = np.maximum(0.0, SMALLEST_WEIGHT - _smallest_eigenvalue(*found[2:]))
    return found[2] + widen, found[3] + widen


def _weighted(flat: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return squared distances in units of the weight, and weighted images."""
    # exponentials are most of the work, and a weight's seventh digit does not matter
    yy, xx = (side.astype(np.float32) for side in _grid(*flat.shape[-2:]))
    wxx, wyy = _widened(found)
    wxy = found[4]
    det = np.maximum(wxx * wyy - wxy**2, 1e-4)
    x, y, a, b, c = (v.astype(np.float32)[:, None, None] for v in (found[0], found[1], wyy / det, wxy / det, wxx / det))
    dx, dy = xx - x, yy - y
    rho2 = (a * dx - 2 * b * dy) * dx + c * dy**2
    return rho2, np.exp(-0.5 * np.minimum(rho2, 60.0)) * flat


def _matched(flat: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the next centre and covariance ``(5, N)``."""
    h, w = flat.shape[-2:]
    x, y, mxx, myy, mxy = found
    wxx, wyy = _widened(found)
    _, weighted = _weighted(flat, found)
    powers_y, powers_x = (np.vander(np.arange(side) - (side - 1) / 2, 3, increasing=True) for side in (h, w))
    moments = powers_y.T @ (weighted @ powers_x)  # (N, y power, x power)
    total = _safe(moments[:, 0, 0])
    mx, my = moments[:, 0, 1] / total - x, moments[:, 1, 0] / total - y
    sxx = moments[:, 0, 2] / total - 2 * x * (mx + x) + x**2
    syy = moments[:, 2, 0] / total - 2 * y * (my + y) + y**2
    sxy = moments[:, 1, 1] / total - x * (my + y) - y * (mx + x) + x * y
    # under a Gaussian weight W, a Gaussian of covariance M at distance d looks like one of (1/M + 1/W)^-1 at d W / (M + W)
    gain = 1 + (mxx + myy) / (wxx + wyy)
    x, y = np.clip(x + gain * mx, -w / 2, w / 2), np.clip(y + gain * my, -h / 2, h / 2)
    undone = _without_weight((sxx, syy, sxy), (wxx, wyy, mxy))
    # both have one fixed point where the weight is the matched covariance, and undoing the weight is there sooner
    mxx, myy, mxy = (np.where(np.isfinite(u), u, 2 * s) for u, s in zip(undone, (sxx, syy, sxy), strict=True))
    limit = (max(h, w) / 2) ** 2
    mxx, myy = np.clip(mxx, 0.05, limit), np.clip(myy, 0.05, limit)
    return np.array([x, y, mxx, myy, np.clip(mxy, -0.95 * np.sqrt(mxx * myy), 0.95 * np.sqrt(mxx * myy))])


def _extrapolated(step: np.ndarray, move: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return the limit of steps whose moves shrink by a constant share, as the last two did (Aitken); sizes and shapes by themselves."""
    last, first = (np.array([m[0], m[1], m[2] + m[3], m[2] - m[3], m[4]]) for m in (move, before))
    share = last / np.where(first == 0, np.inf, first)
    x, y, trace, plus, cross = np.where(np.abs(share) < MOST_KEPT, last * share / (1 - share), 0.0)
    return np.asarray(step + np.array([x, y, 0.5 * (trace + plus), 0.5 * (trace - plus), cross]))


def _smallest_eigenvalue(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (xx + yy) - np.hypot(0.5 * (xx - yy), xy))


def _without_weight(seen: Sequence[np.ndarray], weight: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return ``(seen^-1 - weight^-1)^-1`` of 2 x 2 covariances (xx, yy, xy); NaN where that is no covariance."""
    (sxx, syy, sxy), (wxx, wyy, wxy) = seen, weight
    seen_det, weight_det = sxx * syy - sxy**2, wxx * wyy - wxy**2
    with np.errstate(divide="ignore", invalid="ignore"):
        axx, ayy = syy / seen_det - wyy / weight_det, sxx / seen_det - wxx / weight_det
        axy = -sxy / seen_det + wxy / weight_det
        det = axx * ayy - axy**2
        good = (seen_det > 0) & (axx > 0.1) & (ayy > 0.1) & (det > 0.01)
        return tuple(np.where(good, value / det, np.nan) for value in (ayy, axx, -axy))


def _shift(images: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Shift images by (x, y) pixels with a Fourier phase, zero-padded so that nothing wraps into view."""
    h, w = images.shape[-2:]
    pad = max(h, w) // 2 + 2
    wide = np.pad(images, [(0, 0)] * (images.ndim - 2) + [(pad, pad)] * 2)
    fy = np.fft.fftfreq(wide.shape[-2])[:, None]
    fx = np.fft.rfftfreq(wide.shape[-1])[None, :]
    phase = np.exp(-2j * np.pi * (fx * x[..., None, None] + fy * y[..., None, None]))
    out = np.fft.irfft2(np.fft.rfft2(wide) * phase, s=wide.shape[-2:])
    return out[..., pad : pad + h, pad : pad + w]


def tidy_psf(psf: np.ndarray, *, recentre: bool = True) -> PSFReport:
    """Normalise and recentre PSF images, and say which ones cannot be used.

    Parameters
    ----------
    psf : ndarray
        ``(N, B, h, w)`` PSF images; any sides, any positive sum, negative wings allowed.
    recentre : bool
        False for PSFs that were binned after they had been centred: the centroid of a lopsided PSF depends on its sampling, and moving
        it once more would contradict the image.

    Returns
    -------
    PSFReport
        The tidy images, odd-sided and of unit sum, and what was found on the way.
    """
    images = np.asarray(psf, np.float64)
    n = len(images)
    finite = np.asarray(np.isfinite(images).all((-1, -2)))
    images = np.where(finite[..., None, None], images, 0.0)
    # A Fourier shift would ring on float32 extremes; scale first.
    total = images.sum((-1, -2))
    positive = finite & (total > 0) & (images.max((-1, -2)) > 0) & (total > 1e-3 * np.abs(images).sum((-1, -2)))
    images = images / np.where(positive, total, 1.0)[..., None, None]
    h, w = images.shape[-2:]
    if h % 2 == 0 or w % 2 == 0:
        images = np.pad(images, [(0, 0), (0, 0), (0, 1 - h % 2), (0, 1 - w % 2)])
    m = measure_psf(np.where(positive[..., None, None], images, _delta(*images.shape[-2:])))
    # A core holds more light than its area's share of the image; flat images and noise do not have one.
    share = np.pi * (1.5 * m["sigma"]) ** 2 / (images.shape[-2] * images.shape[-1])
    core = np.isfinite(m["core"]) & (m["core"] > 0.05) & (m["core"] > LEAST_CONTRAST * share)
    usable = positive & core
    off = np.hypot(m["x"], m["y"])
    move = usable & (off > 0.01) & recentre
    images[move] = _shift(images[move], -m["x"][move], -m["y"][move])
    sums = images.sum((-1, -2))
    images = np.where(usable[..., None, None], images / np.where(usable, sums, 1.0)[..., None, None], _delta(*images.shape[-2:]))
    even = h % 2 == 0 or w % 2 == 0
    return PSFReport(
        images=images.astype(np.float32),
        bad=~usable.all(1),
        renormalised=(usable & (np.abs(total - 1) > SUM_TOLERANCE)).any(1),
        recentred=(move & (off > CENTRE_TOLERANCE_PIX)).any(1) | np.full(n, even),
        measured=m,
        changed=(move | ~usable).any(1),
    )


def _delta(h: int, w: int) -> np.ndarray:
    image = np.zeros((h, w))
    image[h // 2, w // 2] = 1.0
    return image


def psf_at_stamp_scale(psf: np.ndarray, *, oversampling: int, binning: int, size: int) -> np.ndarray:
    """Resample centred PSF images to the pixels of a binned stamp.

    Summing ``b x b`` pixels convolves the PSF with a comb of ``b`` image pixels; sampling then takes every
    ``oversampling * b``-th point, starting from the centre, so that the centre stays in the middle pixel.

    Parameters
    ----------
    psf : ndarray
        ``(N, B, h, w)``, odd sides, centred.
    oversampling, binning : int
        PSF pixels per image pixel, and image pixels per stamp pixel.
    size : int
        Odd side of the result; wings beyond it are cut, and the sum is set to one.

    Returns
    -------
    ndarray
        ``(N, B, size, size)``.
    """
    step = oversampling * binning
    if step > 1:
        h, w = psf.shape[-2:]
        reach = (size // 2) * step + step + 1
        pad_y, pad_x = max(reach - h // 2, step), max(reach - w // 2, step)
        wide = np.pad(np.asarray(psf, np.float64), [(0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)])
        if binning > 1:
            fy = np.fft.fftfreq(wide.shape[-2])[:, None]
            fx = np.fft.rfftfreq(wide.shape[-1])[None, :]
            comb = _comb(fy, binning, oversampling) * _comb(fx, binning, oversampling)
            wide = np.fft.irfft2(np.fft.rfft2(wide) * comb, s=wide.shape[-2:])
        cy, cx = wide.shape[-2] // 2, wide.shape[-1] // 2
        half = size // 2
        rows = cy + step * np.arange(-half, half + 1)
        columns = cx + step * np.arange(-half, half + 1)
        psf = wide[..., rows[:, None], columns[None, :]]
    else:
        psf = _resize(psf, size)
    psf = np.asarray(psf, np.float64)
    total = psf.sum((-1, -2), keepdims=True)
    return (psf / np.where(total > 0, total, 1.0)).astype(np.float32)


def boxed(images: np.ndarray, b: int, spacing: int = 1) -> np.ndarray:
    """Average PSF images over the pixels of a binned stamp, which sums ``b x b`` image pixels.

    Parameters
    ----------
    images : ndarray
        ``(N, h, w)``.
    b : int
        Image pixels per stamp pixel.
    spacing : int
        PSF samples per image pixel.

    Returns
    -------
    ndarray
        ``(N, h + (b - 1) spacing, w + (b - 1) spacing)``, of the same sum and centre.
    """
    h, w = images.shape[1:]
    wider = (b - 1) * spacing
    rows, columns = (np.mean([np.eye(side + wider, side, -k * spacing) for k in range(b)], 0) for side in (h, w))
    return np.asarray(rows @ images @ columns.T)


def _comb(f: np.ndarray, b: int, spacing: int) -> np.ndarray:
    """Return the transfer function of a centred comb of `b` points, `spacing` apart."""
    offsets = (np.arange(b) - (b - 1) / 2) * spacing
    return np.asarray(np.cos(2 * np.pi * f[..., None] * offsets).mean(-1))


def _resize(psf: np.ndarray, size: int) -> np.ndarray:
    """Crop or zero-pad odd-sided images about their centre."""
    h, w = psf.shape[-2:]
    py, px = max(0, (size - h) // 2), max(0, (size - w) // 2)
    psf = np.pad(psf, [(0, 0), (0, 0), (py, py), (px, px)])
    cy, cx = psf.shape[-2] // 2, psf.shape[-1] // 2
    half = size // 2
    return psf[..., cy - half : cy + half + 1, cx - half : cx + half + 1]
