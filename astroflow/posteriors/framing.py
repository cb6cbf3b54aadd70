"""Framing: any cutout or stamp, cropped, padded and binned to what the network takes.

A survey's cutouts have every size, the network has one. Framing picks a binning from the galaxy's apparent size, cuts that field
about the object, marks what is missing as masked, brings PSF and noise to the binned pixels, and notes everything unusual as
flags. Pixels are never resampled: the frame's centre is the nearest one that the pixel grid allows, and the remaining shift
(at most half a native pixel per axis) is handed on, so that offsets refer to the position that was asked for.
"""

__all__ = ["Framed", "frame"]

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from astroflow.errors import InputError
from astroflow.posteriors.flags import UNUSABLE, Flag
from astroflow.posteriors.framed_images import LARGEST, MASKED_LIMIT, FramedImage, frame_images, framed_correlation
from astroflow.posteriors.framed_psfs import frame_psfs
from astroflow.sims.stamp import StampSpec
from astroflow.types import Array, Cutout, Stamps


@dataclass(frozen=True)
class Framed:
    """Stamps of the network's size, and what framing found out.

    `flags` ``(N,)`` int64; `shift_arcsec` ``(N, 2)``: the frame's centre minus the asked position, along (x, y); `notes` one string
    per object. Unusable rows hold blank stamps. `fine_psfs` holds each row's PSF ``(h, w)`` as it was given, tidied and with the stamp's
    pixel in it, and `fine_sampling` ``(N,)`` its samples per stamp pixel; None and 0 for stamps that came binned, whose PSF did too.
    `measured_psfs` ``(N,)`` each: `measure_psf` of the stamps' PSFs.
    """

    stamps: Stamps
    flags: Array
    shift_arcsec: Array
    notes: list[str]
    fine_psfs: tuple[Array | None, ...]
    fine_sampling: Array
    measured_psfs: dict[str, Array]

    @property
    def usable(self) -> Array:
        """``(N,)`` bool."""
        return np.asarray((self.flags & UNUSABLE) == 0)

    def __getitem__(self, rows: Array) -> "Framed":
        """Select rows by an array of positions."""
        some = rows.tolist()
        return Framed(
            stamps=self.stamps[rows], flags=self.flags[rows], shift_arcsec=self.shift_arcsec[rows], notes=[self.notes[i] for i in some],
            fine_psfs=tuple(self.fine_psfs[i] for i in some), fine_sampling=self.fine_sampling[rows],
            measured_psfs={name: values[rows] for name, values in self.measured_psfs.items()},
        )  # fmt: skip

    def alike(self, rows: Array) -> list[Array]:
        """Sort rows that have a fine PSF by its shape and sampling, and by how far noise is correlated: each part has `fine_stamps`."""
        kinds: dict[tuple[Any, ...], list[int]] = {}
        for i in rows.tolist():
            fine = self.fine_psfs[i]
            if fine is not None:
                kinds.setdefault((fine.shape, int(self.fine_sampling[i]), self._lags(i)), []).append(i)
        return [np.array(members) for members in kinds.values()]

    def _lags(self, row: int) -> tuple[int, ...]:
        """Return the longest lags, (y, x), at which a row's noise is correlated."""
        maps = self.stamps.noise_correlation
        if maps is None:
            return ()
        places = np.argwhere(maps[row, 0] != 0) - maps.shape[-1] // 2
        return tuple(np.abs(places).max(0).tolist())

    def fine_stamps(self) -> Stamps:
        """Return the stamps with their PSFs as fine as they were given, for models that are exact; the rows must be `alike`."""
        psfs = [psf for psf in self.fine_psfs if psf is not None]
        return replace(self.stamps, psf=np.stack(psfs)[:, None], psf_oversampling=int(self.fine_sampling[0]))


def frame(observed: Stamps | Sequence[Cutout], spec: StampSpec, noise_correlation: Array | None = None) -> Framed:
    """Frame stamps or cutouts for a network.

    Parameters
    ----------
    observed : Stamps or sequence of Cutout
        Native-scale observations. Stamps that already have the network's size and a binning above one are kept as they are.
    spec : StampSpec
        What the network takes.
    noise_correlation : ndarray, optional
        ``(L, L)`` correlation of native pixels' noise where an observation states none; independent pixels if left out.

    Raises
    ------
    InputError
        If the pixel scale contradicts the network's by more than 1 %, there is more than one band, or a noise correlation is none.
    """
    kept: list[int | None]
    if isinstance(observed, Stamps):
        _check_scale(observed.pixel_scale_arcsec, spec, "the stamps")
        if observed.shape[1] != 1:
            raise InputError(f"this bundle takes one band; the stamps have {observed.shape[1]}")
        cutouts: Sequence[Cutout] = [_as_cutout(observed, i) for i in range(len(observed))]
        kept = [int(b) if observed.shape[2:] == (spec.size, spec.size) else None for b in observed.binning]
        if any(b is None and value != 1 for b, value in zip(kept, observed.binning, strict=True)):
            raise InputError(f"stamps that are binned already must have {spec.size} x {spec.size} pixels; got {observed.shape[2:]}")
    else:
        cutouts = observed
        kept = [None] * len(cutouts)
        for cutout in cutouts:
            _check_cutout(cutout, spec)
        if len({isinstance(c.identity, str) for c in cutouts}) > 1:
            raise InputError("the cutouts' identities must be all integers or all strings; got both")
    n, size, known = len(cutouts), spec.size, dict[tuple[bytes, int], Array]()
    images, rms = np.zeros((n, 1, size, size), np.float32), np.ones((n, 1, size, size), np.float32)
    mask, ready = np.zeros(images.shape, bool), np.zeros(n, bool)
    if isinstance(observed, Stamps) and observed.shape[2:] == (size, size):
        ready = _nothing_to_do(observed, spec)
        mask[ready] = observed.mask[ready]
        images[ready], rms[ready] = np.where(mask[ready], 0, observed.images[ready]), np.where(mask[ready], 1, observed.rms[ready])
    masked = np.where(mask.mean((1, 2, 3)) > MASKED_LIMIT, int(Flag.MASKED), 0).tolist()
    odd = np.flatnonzero(~ready).tolist()

    def as_it_is(i: int) -> FramedImage:
        correlation = framed_correlation(cutouts[i], kept[i] or 1, True, noise_correlation, known)
        return FramedImage(images[i], rms[i], mask[i], kept[i] or 1, (0.0, 0.0), masked[i], cutouts[i].note, correlation)

    others = dict(zip(odd, frame_images([cutouts[i] for i in odd], spec, [kept[i] for i in odd], noise_correlation), strict=True))
    parts = [others[i] if i in others else as_it_is(i) for i in range(n)]
    psfs = frame_psfs(cutouts, [p.binning for p in parts], kept, spec.psf_size)
    flags = np.array([p.flags for p in parts], np.int64) | psfs.flags
    blank = (flags & UNUSABLE) != 0
    for i in np.flatnonzero(~ready):
        images[i], rms[i], mask[i] = parts[i].image, parts[i].rms, parts[i].mask
    images[blank], rms[blank], mask[blank] = 0.0, 1.0, False
    factor = np.array([10 ** (0.4 * (spec.zero_point - c.zero_point)) for c in cutouts])
    factor[blank] = 1.0
    if (factor != 1).any():
        images *= factor[:, None, None, None].astype(np.float32)
        rms *= factor[:, None, None, None].astype(np.float32)
    gain = np.where(blank, np.inf, [c.gain for c in cutouts])
    stamps = Stamps(
        images=images, psf=psfs.images, rms=rms, mask=mask, gain=(gain / factor)[:, None],
        binning=np.array([p.binning for p in parts]),
        zero_point=spec.zero_point, pixel_scale_arcsec=spec.pixel_scale_arcsec, ids=np.array([c.identity for c in cutouts]),
        noise_correlation=_joined([p.correlation for p in parts]),
    )  # fmt: skip
    shift = np.array([p.shift for p in parts]).reshape(-1, 2) * spec.pixel_scale_arcsec
    notes = [p.note or _psf_note(f) for p, f in zip(parts, psfs.flags.tolist(), strict=True)]
    return Framed(stamps, flags, shift, notes, fine_psfs=psfs.fine, fine_sampling=psfs.sampling, measured_psfs=psfs.measured)


def _nothing_to_do(stamps: Stamps, spec: StampSpec) -> Array:
    """Say which stamps of the network's size are framed as they are ``(N,)``: the common case, which need not be looked at one by one."""
    good, image = ~stamps.mask, stamps.images
    with np.errstate(invalid="ignore"):
        known = (np.abs(image) <= LARGEST) & (stamps.rms > 0) & (stamps.rms < LARGEST)
    middle = slice(spec.size // 2 - 2, spec.size // 2 + 2)
    highest, lowest = (
        f(image, (1, 2, 3), where=good & known, initial=e) for f, e in ((np.max, -np.float32(np.inf)), (np.min, np.float32(np.inf)))
    )
    return np.asarray(
        (known | ~good).all((1, 2, 3)) & (highest > lowest) & (stamps.mask[..., middle, middle].mean((1, 2, 3)) <= 0.5)
        & stamps.band_present[:, 0] & (stamps.gain[:, 0] > 0) & np.isin(stamps.binning, spec.binning)
    )  # fmt: skip


def _check_cutout(cutout: Cutout, spec: StampSpec) -> None:
    if cutout.image is None:
        return
    name = f"cutout {cutout.identity!r}"
    _check_scale(cutout.pixel_scale_arcsec, spec, name)
    if not np.isfinite(cutout.zero_point):
        raise InputError(f"{name} has no zero point: expected the AB magnitude of one image unit, got {cutout.zero_point}")
    shape = np.shape(cutout.image)
    if len(shape) != 3 or shape[0] != 1:
        raise InputError(f"the image of {name} must be (1, H, W), one band; got shape {shape}")
    for part, given in (("noise map", cutout.rms), ("mask", cutout.mask)):
        if given is not None and np.shape(given) != shape:
            raise InputError(f"the {part} of {name} has shape {np.shape(given)}, its image {shape}")
    if cutout.psf is not None and (np.ndim(cutout.psf) != 3 or len(cutout.psf) != 1):
        raise InputError(f"the PSF of {name} must be (1, h, w), one band; got shape {np.shape(cutout.psf)}")
    if cutout.noise_correlation is not None:
        lags = np.shape(cutout.noise_correlation)
        if len(lags) != 3 or lags[0] != 1 or lags[1] != lags[2] or lags[1] % 2 == 0:
            raise InputError(f"the noise correlation of {name} must be (1, L, L), one band, with odd L; got shape {lags}")


def _check_scale(scale: float, spec: StampSpec, what: str) -> None:
    if not abs(scale / spec.pixel_scale_arcsec - 1) <= 0.01:
        raise InputError(
            f"{what}: {scale:g} arcsec per pixel; this bundle was trained at {spec.pixel_scale_arcsec:g}. "
            "Use a bundle for this pixel scale, or correct the scale that was given"
        )


def _as_cutout(stamps: Stamps, i: int) -> Cutout:
    present = bool(stamps.band_present[i].any())
    return Cutout(
        identity=stamps.ids[i].item(), image=stamps.images[i] if present else None, rms=stamps.rms[i], mask=stamps.mask[i],
        psf=stamps.psf[i], zero_point=stamps.zero_point, pixel_scale_arcsec=stamps.pixel_scale_arcsec,
        psf_oversampling=stamps.psf_oversampling, gain=float(stamps.gain[i, 0]),
        noise_correlation=None if stamps.noise_correlation is None else stamps.noise_correlation[i],
        flags=0 if present else int(Flag.NO_DATA), note="" if present else "no band was observed",
    )  # fmt: skip


def _joined(maps: list[Array | None]) -> Array | None:
    """Return maps of any sides as one array ``(N, 1, L, L)``; independent pixels where there is none."""
    reach = max((len(m) // 2 for m in maps if m is not None), default=None)
    if reach is None:
        return None
    independent = np.ones((1, 1))
    return np.stack([np.pad(m, reach - len(m) // 2)[None] for m in (independent if m is None else m for m in maps)])


def _psf_note(flags: int) -> str:
    return "the PSF is missing, not finite, or has no positive sum or core" if flags & Flag.BAD_PSF else ""
