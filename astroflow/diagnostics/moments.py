"""Image moments: a galaxy image as some fifty numbers, the way catalogs did before networks.

Aperture magnitudes, and the centroid, size, ellipticity and concentration under Gaussian weights of a few widths, each also
corrected for the PSF; then the PSF's own size and shape, the noise level and the binning. `astroflow.diagnostics.baseline` regresses
parameters on them. Lengths are in log arcsec and fluxes in magnitudes, so that binned stamps are on one scale.

Masked pixels never count. Apertures and weights need something in their place: the pixel opposite through the stamp's centre, as a
galaxy is point-symmetric, else the mean of the usable pixels at that radius. Fluxes near or below zero go through an inverse
hyperbolic sine, so every feature of every stamp is finite.

References
----------
Lupton, Gunn & Szalay 1999 (asinh magnitudes), https://arxiv.org/abs/astro-ph/9903081; Bernstein & Jarvis 2002 (weighted moments),
https://arxiv.org/abs/astro-ph/0107431
"""

__all__ = ["image_features"]

import numpy as np

from astroflow.sims.psf_images import measure_psf, tidy_psf
from astroflow.types import Array, Stamps

APERTURES = 7
WEIGHT_SIGMAS_PIX = (2.0, 4.0, 8.0)
BLOCK = 512  # stamps at once, which bounds memory


def image_features(stamps: Stamps) -> Array:
    """Measure stamps.

    Returns
    -------
    ndarray
        ``(N, F)`` float64, finite for any stamps, F the same for stamps of the same shape.
    """
    blocks = [_block(stamps[start : start + BLOCK]) for start in range(0, len(stamps), BLOCK)]
    return np.concatenate(blocks)


def _block(stamps: Stamps) -> Array:
    bands = [_band(stamps, band) for band in range(stamps.shape[1])]
    features = np.concatenate([*bands, np.log2(stamps.binning)[:, None]], axis=1)
    return np.asarray(np.nan_to_num(features, nan=0.0, posinf=0.0, neginf=0.0))


def _offsets(h: int, w: int) -> tuple[Array, Array]:
    return np.arange(h)[:, None] - (h - 1) / 2, np.arange(w)[None, :] - (w - 1) / 2


def _band(stamps: Stamps, band: int) -> Array:
    """Measure one band; ``(N, F)``."""
    image, rms = stamps.images[:, band].astype(np.float64), stamps.rms[:, band].astype(np.float64)
    good = ~np.asarray(stamps.mask)[:, band] & np.isfinite(image) & np.isfinite(rms) & (rms > 0)
    good &= np.asarray(stamps.band_present)[:, band, None, None]
    weight = np.where(good, 1 / np.where(good, rms, 1.0) ** 2, 0.0)
    # The scale of the noise: the harmonic mean variance of the usable pixels.
    noise = np.sqrt(good.sum((1, 2)) / np.where(good.any((1, 2)), weight.sum((1, 2)), 1.0))
    noise = np.where(noise > 0, noise, 1.0)
    filled = _filled(np.where(good, image, 0.0), weight, good)
    scale = np.asarray(stamps.stamp_scale_arcsec, np.float64)
    psf, psf_size = _psf_features(stamps.psf[:, band], stamps, scale)
    zero_point = np.full(len(image), stamps.zero_point)
    columns = [
        *_apertures(filled, noise, zero_point),
        *_weighted(filled, noise, zero_point, scale, psf_size, psf),
        np.log(psf_size), psf[:, 0], psf[:, 1],
        zero_point - 2.5 * np.log10(noise), 1 - good.mean((1, 2)),
    ]  # fmt: skip
    return np.stack(columns, axis=1)


def _filled(image: Array, weight: Array, good: Array) -> Array:
    """Put the opposite pixel, or the weighted mean of the usable pixels at that radius, where a pixel is masked."""
    n, h, w = image.shape
    y, x = _offsets(h, w)
    ring = np.round(np.hypot(y, x)).astype(int).ravel()
    belongs = np.eye(ring.max() + 1)[ring]
    total = weight.reshape(n, -1) @ belongs
    mean = ((image * weight).reshape(n, -1) @ belongs) / np.where(total > 0, total, 1.0)
    rings = mean[:, ring].reshape(n, h, w)
    opposite, usable = image[:, ::-1, ::-1], good[:, ::-1, ::-1]
    return np.where(good, image, np.where(usable, opposite, rings))


def _magnitude(flux: Array, sigma: Array, zero_point: Array) -> Array:
    """Asinh magnitude: ``zero_point - 2.5 log10 flux`` where flux is well above sigma, linear in flux where it is not."""
    return np.asarray(zero_point - (np.arcsinh(flux / (2 * sigma)) + np.log(sigma)) * 2.5 / np.log(10))


def _apertures(image: Array, noise: Array, zero_point: Array) -> list[Array]:
    """Magnitudes in circles about the stamp's centre, from 1.5 pixels to the stamp's edge, and the log S/N of the middle one."""
    h, w = image.shape[1:]
    y, x = _offsets(h, w)
    columns = []
    for radius in np.geomspace(1.5, min(h, w) / 2, APERTURES):
        inside = np.clip(radius + 0.5 - np.hypot(y, x), 0, 1)
        sigma = noise * np.sqrt((inside**2).sum())
        flux = np.einsum("nyx,yx->n", image, inside)
        columns.append(_magnitude(flux, sigma, zero_point))
        if len(columns) == APERTURES // 2 + 1:
            log_snr = np.arcsinh(flux / (2 * sigma))
    return [*columns, log_snr]


def _psf_features(images: Array, stamps: Stamps, scale: Array) -> tuple[Array, Array]:
    """Return the PSF's ellipticity ``(N, 2)`` and its size ``(N,)``, the sigma of the matched Gaussian in arcsec."""
    m = measure_psf(tidy_psf(images[:, None]).images[:, 0])
    size = np.clip(m["sigma"], 0.2, None) * scale / stamps.psf_oversampling
    return np.stack([m["e1"], m["e2"]], axis=1), size


def _weighted(image: Array, noise: Array, zero_point: Array, scale: Array, psf_size: Array, psf_e: Array) -> list[Array]:
    """Measure centroid, size, shape and concentration under round Gaussian weights."""
    h, w = image.shape[1:]
    y, x = _offsets(h, w)
    cx, cy = np.zeros(len(image)), np.zeros(len(image))
    narrow = WEIGHT_SIGMAS_PIX[0] * 1.25
    floor = 2 * np.sqrt(np.pi) * narrow * noise  # the noise of the weighted flux
    for _ in range(6):
        dx, dy, weighted = _apply_weight(image, x, y, cx, cy, narrow)
        total = np.maximum(weighted.sum((1, 2)), floor)
        cx = np.clip(cx + 2 * (weighted * dx).sum((1, 2)) / total, -w / 4, w / 4)
        cy = np.clip(cy + 2 * (weighted * dy).sum((1, 2)) / total, -h / 4, h / 4)
    columns = [cx * scale, cy * scale]
    for sigma in WEIGHT_SIGMAS_PIX:
        dx, dy, weighted = _apply_weight(image, x, y, cx, cy, sigma)
        flux, sky = weighted.sum((1, 2)), np.sqrt(np.pi) * sigma * noise
        total = np.maximum(flux, 2 * sky)
        r2 = dx**2 + dy**2
        trace = np.clip((weighted * r2).sum((1, 2)) / total, 0.1 * sigma**2, 1.9 * sigma**2)
        e1 = np.clip((weighted * (dx**2 - dy**2)).sum((1, 2)) / total / trace, -1, 1)
        e2 = np.clip(2 * (weighted * dx * dy).sum((1, 2)) / total / trace, -1, 1)
        kurtosis = np.clip((weighted * r2**2).sum((1, 2)) / total / trace**2, 0, 6)
        # Of a Gaussian galaxy, 2 / trace = 1 / size**2 + 1 / sigma**2.
        size = scale / np.sqrt(2 / trace - 1 / sigma**2)
        resolved = np.clip(1 - (psf_size / size) ** 2, 0.1, 1.0)
        # The weight rounds the image; undo that, then what the PSF added.
        stretch = (size / scale) ** 2 * 2 / trace
        intrinsic = [(np.clip(e * stretch, -1, 1) - (1 - resolved) * 2 * p) / resolved for e, p in ((e1, psf_e[:, 0]), (e2, psf_e[:, 1]))]
        columns += [_magnitude(flux, sky, zero_point), np.log(size), np.log(size**2 * resolved) / 2, kurtosis, e1, e2]
        columns += [np.clip(e, -2, 2) for e in intrinsic]
    return columns


def _apply_weight(image: Array, x: Array, y: Array, cx: Array, cy: Array, sigma: float) -> tuple[Array, Array, Array]:
    """Return offsets from the centroid and the image times a round Gaussian about it."""
    dx, dy = x - cx[:, None, None], y - cy[:, None, None]
    return dx, dy, image * np.exp(-0.5 * dx**2 / sigma**2) * np.exp(-0.5 * dy**2 / sigma**2)
