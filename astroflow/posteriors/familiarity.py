"""Familiarity: does this object look like anything the network was trained on?

Three questions, each with a threshold measured on simulations whose noise the network had not seen: is the PSF like a training PSF
(size, shape, wings), are noise level and gain inside the training range, is the context vector where contexts of simulations are
(Mahalanobis distances)? A posterior of an unfamiliar object may be confidently wrong, so its row is flagged.
"""

__all__ = ["Familiarity", "unfamiliar_correlation"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from astroflow.posteriors.flags import Flag
from astroflow.sims.correlation import aperture_scatter, binned_correlation
from astroflow.sims.psf_images import measure_psf
from astroflow.types import Array, Stamps

TAIL = 0.001
"""Share of the simulations that lies beyond a threshold."""
LEAST_SHARE = 1e-9
"""Rows no more than dimensions leave nothing of a distance's share; their cloud is familiar with everything."""
GAIN_MARGIN = 1.1
APERTURES = ((1, 4), (4, 1), (2, 2), (4, 4), (8, 8))
"""Boxes, rows x columns of stamp pixels, in whose sums noise correlations are compared."""
SCATTER_MARGIN = 1.15
PSF_FEATURES = 6
PSF_RESOLUTION = (0.01, 0.01, 0.01, 0.02, 0.01, 0.01)
"""Differences of the PSF features that mean nothing, about one per cent: the same PSF on an image of another size differs as much."""


@dataclass(frozen=True)
class _Cloud:
    """A cloud of feature vectors: its mean, whitening matrix and the squared distance that one in a thousand exceeds."""

    mean: Array
    whiten: Array
    threshold: float

    @classmethod
    def of(cls, features: Array, tail: float, resolution: Sequence[float] | None = None) -> "_Cloud":
        """Measure a cloud; features that differ by less than their `resolution` are the same."""
        mean, dimensions = features.mean(0), features.shape[1]
        unit = np.ones(dimensions) if resolution is None else np.asarray(resolution, np.float64)
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov((features / unit).T)))
        # directions without spread count as one thousandth of the widest, so that a departure along them is seen
        least = 1e-6 * values.max() if resolution is None else 1.0
        values = np.maximum(values, max(least, np.finfo(np.float64).tiny))
        cloud = cls(mean, vectors / np.sqrt(values) / unit[:, None], np.inf)
        threshold = float(np.quantile(_left_out(cloud.distance(features), len(features)), 1 - tail)) * 1.05
        # where every PSF is the same one, no distance would be small enough
        return cls(mean, cloud.whiten, threshold if resolution is None else max(threshold, float(dimensions)))

    def distance(self, features: Array) -> Array:
        # a product for each row, so that a row's distance does not depend on its company
        return np.asarray((((features - self.mean)[:, None] @ self.whiten) ** 2).sum((-2, -1)))


def _left_out(distances: Array, n: int) -> Array:
    """Return the squared distances of n rows from the cloud of the other n - 1, given those from the cloud of all.

    A cloud is drawn towards the rows that it is measured on, the more the more dimensions it has: of 512, a threshold from 4096 such rows
    would be exceeded by one fresh row in fifteen instead of one in a thousand.
    """
    # Sherman & Morrison: as if mean and covariance had been measured anew without each row
    share = np.maximum(1 - n * distances / (n - 1) ** 2, LEAST_SHARE)
    return np.asarray((n / (n - 1)) ** 2 * (n - 2) / (n - 1) * distances / share)


@dataclass(frozen=True)
class Familiarity:
    """Where the training simulations lie.

    Parameters
    ----------
    psf, context : cloud of PSF features and of context vectors
    log_rms : ndarray
        ``(2,)`` smallest and largest log of the stamp's rms per native pixel, image unit of the network.
    photon : ndarray
        ``(2,)`` smallest and largest photon noise: variance per image unit, 1 / gain, which is 0 where there is none.
    """

    psf: _Cloud
    context: _Cloud
    log_rms: Array
    photon: Array

    @classmethod
    def of(cls, stamps: Stamps, context: Array) -> "Familiarity":
        """Measure on simulated stamps and their contexts."""
        levels = _log_rms(stamps)
        margin = 0.02 * (levels.max() - levels.min()) + 0.05
        return cls(
            psf=_Cloud.of(psf_features(stamps), TAIL, PSF_RESOLUTION),
            context=_Cloud.of(context.astype(np.float64), TAIL),
            log_rms=np.array([levels.min() - margin, levels.max() + margin]),
            photon=np.array([_photon(stamps).min() / GAIN_MARGIN, _photon(stamps).max() * GAIN_MARGIN]),
        )

    def flags(self, stamps: Stamps, context: Array, psfs: Mapping[str, Array] | None = None) -> Array:
        """Return the out-of-distribution bits of framed stamps ``(N,)``; `psfs` is `measure_psf` of their PSFs, if that is known."""
        levels = _log_rms(stamps)
        bits = np.where(self.psf.distance(psf_features(stamps, psfs)) > self.psf.threshold, int(Flag.OOD_PSF), 0)
        bits |= np.where((levels < self.log_rms[0]) | (levels > self.log_rms[1]), int(Flag.OOD_RMS), 0)
        photon = _photon(stamps)
        bits |= np.where((photon < self.photon[0]) | (photon > self.photon[1]), int(Flag.OOD_GAIN), 0)
        bits |= np.where(self.context.distance(context.astype(np.float64)) > self.context.threshold, int(Flag.OOD_IMAGE), 0)
        return bits.astype(np.int64)

    def to_arrays(self) -> dict[str, Array]:
        """Return plain arrays for the bundle."""
        arrays = {"log_rms": np.asarray(self.log_rms, np.float64), "photon": np.asarray(self.photon, np.float64)}
        for name, cloud in (("psf", self.psf), ("context", self.context)):
            arrays |= {f"{name}_mean": cloud.mean, f"{name}_whiten": cloud.whiten, f"{name}_threshold": np.array([cloud.threshold])}
        return {name: np.ascontiguousarray(value, np.float64) for name, value in arrays.items()}

    @staticmethod
    def shapes(context: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each of those arrays, for contexts of a given length."""
        shapes: dict[str, tuple[int, ...]] = {"log_rms": (2,), "photon": (2,)}
        for name, length in (("psf", PSF_FEATURES), ("context", context)):
            shapes |= {f"{name}_mean": (length,), f"{name}_whiten": (length, length), f"{name}_threshold": (1,)}
        return shapes

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "Familiarity":
        """Rebuild from `to_arrays`."""
        clouds = {
            name: _Cloud(arrays[f"{name}_mean"], arrays[f"{name}_whiten"], float(arrays[f"{name}_threshold"][0]))
            for name in ("psf", "context")
        }
        return cls(**clouds, log_rms=arrays["log_rms"], photon=arrays["photon"])


def psf_features(stamps: Stamps, measured: Mapping[str, Array] | None = None) -> Array:
    """Return ``(N, 6)`` PSF features: log sigma (arcsec), e1, e2, fourth moment, core share, log2 of the binning."""
    if not len(stamps):
        return np.zeros((0, PSF_FEATURES))
    m = measure_psf(stamps.psf[:, 0]) if measured is None else measured
    # what moment-measuring reads off a given PSF depends on the sampling, so it is part of the features
    return np.stack(
        [np.log(m["sigma"] * stamps.stamp_scale_arcsec), m["e1"], m["e2"], m["kurtosis"], m["core"], np.log2(stamps.binning)], axis=-1
    )


def unfamiliar_correlation(stamps: Stamps, trained: Array | None) -> Array:
    """Return `OOD_CORRELATION` ``(N,)`` where noise sums to another scatter than the training's, by more than 15 % in any of `APERTURES`.

    Parameters
    ----------
    stamps : Stamps
        Framed stamps.
    trained : ndarray or None
        ``(L, L)`` correlation of native pixels' noise in training; None for independent pixels.
    """
    if stamps.noise_correlation is None or not len(stamps):
        return np.zeros(len(stamps), np.int64)
    native = np.ones((1, 1)) if trained is None else trained
    odd: dict[tuple[int, bytes], bool] = {}
    bits = np.zeros(len(stamps), np.int64)
    for row, (b, given) in enumerate(zip(stamps.binning.tolist(), stamps.noise_correlation[:, 0], strict=True)):
        key = (b, given.tobytes())
        if key not in odd:
            expected = binned_correlation(native, b)[0]
            ratios = np.array([aperture_scatter(given, *box) / aperture_scatter(expected, *box) for box in APERTURES])
            # a map that is no correlation of any noise has no scatter at all
            odd[key] = not (np.maximum(ratios, 1 / ratios) <= SCATTER_MARGIN).all()
        bits[row] = int(Flag.OOD_CORRELATION) * odd[key]
    return bits


def _photon(stamps: Stamps) -> Array:
    return np.asarray(1.0 / stamps.gain[:, 0].astype(np.float64))


def _log_rms(stamps: Stamps) -> Array:
    good = ~stamps.mask
    count = np.maximum(good.sum((1, 2, 3)), 1)
    return np.asarray(np.where(good, np.log(stamps.rms), 0.0).sum((1, 2, 3)) / count - np.log(stamps.binning))
