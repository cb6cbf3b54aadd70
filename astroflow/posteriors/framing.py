"""Framing: any cutout or stamp, cropped, padded and binned to what the network takes.

A survey's cutouts have every size, the network has one. Framing picks a binning from the galaxy's apparent size, cuts that field
about the object, marks what is missing as masked, brings PSF and noise to the binned pixels, and notes everything unusual as
flags. Pixels are never resampled: the frame's centre is the nearest one that the pixel grid allows, and the remaining shift
(at most half a native pixel per axis) is handed on, so that offsets refer to the position that was asked for.
"""

__all__ = ["Framed", "apparent_radius", "frame"]

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from astroflow.errors import InputError
from astroflow.posteriors.flags import UNUSABLE, Flag
from astroflow.sims.binning import bin_images, bin_mask, bin_rms
from astroflow.sims.correlation import binned_correlation
from astroflow.sims.psf_images import boxed, psf_at_stamp_scale, tidy_psf
from astroflow.sims.stamp import StampSpec
from astroflow.types import Array, Cutout, Stamps

RADIUS_SHARE = 0.1
"""The binning is the finest whose stamp side times this holds the apparent half-light radius."""
CROPPED_SHARE = 0.25
MASKED_LIMIT = 0.25
FAINTEST_RING = 0.3


@dataclass(frozen=True)
class Framed:
    """Stamps of the network's size, and what framing found out.

    `flags` ``(N,)`` int64; `shift_arcsec` ``(N, 2)``: the frame's centre minus the asked position, along (x, y); `notes` one string
    per object. Unusable rows hold blank stamps. `fine_psfs` holds each row's PSF ``(h, w)`` as it was given, tidied and with the stamp's
    pixel in it, and `fine_sampling` ``(N,)`` its samples per stamp pixel; None and 0 for stamps that came binned, whose PSF did too.
    """

    stamps: Stamps
    flags: Array
    shift_arcsec: Array
    notes: list[str]
    fine_psfs: tuple[Array | None, ...]
    fine_sampling: Array

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
        )  # fmt: skip

    def alike(self, rows: Array) -> list[Array]:
        """Sort rows that have a fine PSF by its shape and sampling, so that each part has `fine_stamps`."""
        kinds: dict[tuple[Any, ...], list[int]] = {}
        for i in rows.tolist():
            fine = self.fine_psfs[i]
            if fine is not None:
                kinds.setdefault((fine.shape, int(self.fine_sampling[i])), []).append(i)
        return [np.array(members) for members in kinds.values()]

    def fine_stamps(self) -> Stamps:
        """Return the stamps with their PSFs as fine as they were given, for models that are exact; the rows must be `alike`."""
        psfs = [psf for psf in self.fine_psfs if psf is not None]
        return replace(self.stamps, psf=np.stack(psfs)[:, None], psf_oversampling=int(self.fine_sampling[0]))


class _Part(NamedTuple):
    image: Array
    rms: Array
    mask: Array
    binning: int
    shift: tuple[float, float]
    flags: int
    note: str
    correlation: Array | None = None


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
    parts = [_frame_one(c, spec, k, noise_correlation) for c, k in zip(cutouts, kept, strict=True)]
    psf, psf_flags, fine, sampling = _frame_psfs(cutouts, [p.binning for p in parts], kept, spec)
    flags = np.array([p.flags for p in parts], np.int64) | psf_flags
    size = spec.size
    blank = (flags & UNUSABLE) != 0
    images = np.array([p.image for p in parts], np.float32).reshape(-1, 1, size, size)
    rms = np.array([p.rms for p in parts], np.float32).reshape(-1, 1, size, size)
    mask = np.array([p.mask for p in parts], bool).reshape(-1, 1, size, size)
    images[blank], rms[blank], mask[blank] = 0.0, 1.0, False
    factor = np.array([10 ** (0.4 * (spec.zero_point - c.zero_point)) for c in cutouts])
    factor[blank] = 1.0
    scaled = factor[:, None, None, None].astype(np.float32)
    gain = np.where(blank, np.inf, [c.gain for c in cutouts])
    stamps = Stamps(
        images=images * scaled, psf=psf, rms=rms * scaled, mask=mask, gain=(gain / factor)[:, None],
        binning=np.array([p.binning for p in parts]),
        zero_point=spec.zero_point, pixel_scale_arcsec=spec.pixel_scale_arcsec, ids=np.array([c.identity for c in cutouts]),
        noise_correlation=_joined([p.correlation for p in parts]),
    )  # fmt: skip
    shift = np.array([p.shift for p in parts]).reshape(-1, 2) * spec.pixel_scale_arcsec
    notes = [p.note or _psf_note(int(f)) for p, f in zip(parts, psf_flags, strict=True)]
    return Framed(stamps=stamps, flags=flags, shift_arcsec=shift, notes=notes, fine_psfs=tuple(fine), fine_sampling=sampling)


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


def _blank(spec: StampSpec, flags: int, note: str) -> _Part:
    zeros = np.zeros((1, spec.size, spec.size), np.float32)
    return _Part(zeros, zeros + 1, zeros.astype(bool), spec.binning[0], (0.0, 0.0), flags, note)


def _joined(maps: list[Array | None]) -> Array | None:
    """Return maps of any sides as one array ``(N, 1, L, L)``; independent pixels where there is none."""
    reach = max((len(m) // 2 for m in maps if m is not None), default=None)
    if reach is None:
        return None
    independent = np.ones((1, 1))
    return np.stack([np.pad(m, reach - len(m) // 2)[None] for m in (independent if m is None else m for m in maps)])


def _frame_one(cutout: Cutout, spec: StampSpec, kept_binning: int | None, typical: Array | None) -> _Part:
    flags = int(cutout.flags)
    if cutout.image is None or flags & UNUSABLE:
        return _blank(spec, flags | (0 if flags & UNUSABLE else int(Flag.NO_DATA)), cutout.note or "no image")
    image = np.asarray(cutout.image, np.float32)
    height, width = image.shape[-2:]
    x = (width - 1) / 2 if cutout.x is None else float(cutout.x)
    y = (height - 1) / 2 if cutout.y is None else float(cutout.y)
    if not (np.isfinite(x) and np.isfinite(y)):
        return _blank(spec, flags | Flag.BAD_POSITION, f"the pixel position ({x:g}, {y:g}) is not finite")
    if not cutout.gain > 0:
        return _blank(spec, flags | Flag.BAD_RMS, f"the gain must be positive; it is {cutout.gain:g}")
    rms = np.full_like(image, np.nan) if cutout.rms is None else np.asarray(cutout.rms, np.float32)
    given = np.zeros(image.shape, bool) if cutout.mask is None else np.asarray(cutout.mask, bool)
    with np.errstate(invalid="ignore"):
        bad_value, bad_noise = ~np.isfinite(image) | (np.abs(image) > 1e30), ~(np.isfinite(rms) & (rms > 0) & (rms < 1e30))
    if (given | bad_value).all():
        return _blank(spec, flags | Flag.NO_DATA, "every pixel is masked or not finite")
    if (given | bad_value | bad_noise).all():
        return _blank(spec, flags | Flag.BAD_RMS, "the noise map is missing, zero, negative or not finite")
    mask = given | bad_value | bad_noise
    if (bad_value | bad_noise)[~given].any():
        flags |= Flag.PIXELS_REPAIRED
    image, rms = np.where(mask, 0, image), np.where(mask, 1, rms)
    native = typical if cutout.noise_correlation is None else cutout.noise_correlation[0]
    if kept_binning is not None:
        binning, shift = kept_binning, (0.0, 0.0)
        if binning not in spec.binning:
            raise InputError(f"stamp {cutout.identity!r} has binning {binning}; this bundle takes {list(spec.binning)}")
        # what a binned stamp says of its noise is about its own pixels
        steps = binning if cutout.noise_correlation is None else 1
    else:
        guess = cutout.size_pixels
        radius = guess if guess is not None and 0 < guess < np.inf else apparent_radius(image[0], rms[0], mask[0], x, y)
        binning = next((b for b in spec.binning if radius <= RADIUS_SHARE * spec.size * b), spec.binning[-1])
        if radius > CROPPED_SHARE * spec.size * binning:
            flags |= Flag.CROPPED
        image, rms, mask, shift = _cut(image, rms, mask, x, y, spec.size * binning)
        image, rms, mask = bin_images(image, binning), bin_rms(rms, binning, native), bin_mask(mask, binning)
        image, steps = np.where(mask, 0, image), binning
    correlation = None if native is None else binned_correlation(native, steps)[0]
    if mask.all():
        return _blank(spec, flags | Flag.NO_DATA, "no usable pixel near the object")
    good = image[~mask]
    if good.min() == good.max():
        return _blank(spec, flags | Flag.NO_SIGNAL, f"the image is constant (= {good[0]:g} per stamp pixel)")
    middle = spec.size // 2
    if mask[..., middle - 2 : middle + 2, middle - 2 : middle + 2].mean() > 0.5:
        return _blank(spec, flags | Flag.CENTRE_MASKED, "the pixels at the object's centre are masked")
    if mask.mean() > MASKED_LIMIT:
        flags |= Flag.MASKED
    return _Part(image, rms, mask, binning, shift, flags, cutout.note, correlation)


def _cut(image: Array, rms: Array, mask: Array, x: float, y: float, side: int) -> tuple[Array, Array, Array, tuple[float, float]]:
    """Cut ``side x side`` native pixels about (x, y); what lies outside is masked."""
    height, width = image.shape[-2:]
    left, low = (int(np.floor(p - (side - 1) / 2 + 0.5)) for p in (x, y))
    out_image = np.zeros((1, side, side), np.float32)
    out_rms = np.ones((1, side, side), np.float32)
    out_mask = np.ones((1, side, side), bool)
    rows = slice(max(0, low), max(min(height, low + side), 0))
    columns = slice(max(0, left), max(min(width, left + side), 0))
    if rows.start < rows.stop and columns.start < columns.stop:
        to = (slice(None), slice(rows.start - low, rows.stop - low), slice(columns.start - left, columns.stop - left))
        for out, array in ((out_image, image), (out_rms, rms), (out_mask, mask)):
            out[to] = array[:, rows, columns]
    return out_image, out_rms, out_mask, (left + (side - 1) / 2 - x, low + (side - 1) / 2 - y)


def apparent_radius(image: Array, rms: Array, mask: Array, x: float, y: float) -> float:
    """Guess a half-light radius in pixels from the curve of growth about (x, y).

    Rings are added until their mean brightness falls below twice its error, or below `FAINTEST_RING` of a pixel's noise: wide rings average
    their own noise away, but not a residual sky. Half of the light within is the answer. Deliberately simple: it only chooses the binning.
    """
    height, width = image.shape
    if not (0 <= x < width and 0 <= y < height):
        return 1.0
    yy, xx = np.ogrid[:height, :width]
    ring = np.sqrt((xx - x) ** 2 + (yy - y) ** 2).astype(np.int64)
    good = ~mask
    rings = int(ring.max()) + 1
    count = np.bincount(ring[good], minlength=rings)
    flux = np.bincount(ring[good], weights=image[good], minlength=rings)
    variance = np.bincount(ring[good], weights=rms[good].astype(np.float64) ** 2, minlength=rings)
    # rings of growing width, so that faint outskirts are averaged before they are judged
    edges = np.unique(np.concatenate([[0, 1, 2, 3, 4], np.geomspace(4, max(rings, 6), 24).astype(int)]))
    mean_flux = np.add.reduceat(np.append(flux, 0.0), np.minimum(edges, rings))[:-1]
    error = np.sqrt(np.add.reduceat(np.append(variance, 0.0), np.minimum(edges, rings))[:-1])
    noise = np.bincount(ring[good], weights=rms[good], minlength=rings)
    noise = np.add.reduceat(np.append(noise, 0.0), np.minimum(edges, rings))[:-1]
    faint = np.flatnonzero(mean_flux < np.maximum(2 * error, FAINTEST_RING * noise))
    last = int(edges[faint[0]]) if len(faint) else rings
    if last < 2:
        return 1.0
    full = np.pi * (np.arange(rings) * 2 + 1)
    growth = np.cumsum(np.where(count > 0, flux / np.maximum(count, 1), 0) * full)[:last]
    total = growth.max()
    inside = int(np.argmax(growth >= 0.5 * total))
    before = growth[inside - 1] if inside else 0.0
    return float(inside + (0.5 * total - before) / max(growth[inside] - before, 1e-12))


def _frame_psfs(
    cutouts: Sequence[Cutout], binnings: Sequence[int], kept: Sequence[int | None], spec: StampSpec
) -> tuple[Array, Array, list[Array | None], Array]:
    """Tidy and resample every PSF, each distinct one only once: as the network takes them, their flags, as they were given, sampling."""
    size = spec.psf_size
    out = np.zeros((len(cutouts), 1, size, size), np.float32)
    out[:, :, size // 2, size // 2] = 1.0
    flags = np.zeros(len(cutouts), np.int64)
    fine: list[Array | None] = [None] * len(cutouts)
    sampling = np.zeros(len(cutouts), np.int64)
    groups: dict[tuple[tuple[int, ...], int, int, bool], dict[bytes, list[int]]] = {}
    for i, (cutout, binning) in enumerate(zip(cutouts, binnings, strict=True)):
        if cutout.psf is None:
            flags[i] = 0 if cutout.flags & UNUSABLE else int(Flag.BAD_PSF)
            continue
        psf = np.ascontiguousarray(cutout.psf, np.float32)
        # stamps that come binned bring a PSF at their own scale, centred before it was binned
        steps = 1 if kept[i] is not None else binning
        key = (psf.shape, cutout.psf_oversampling, steps, (kept[i] or 1) == 1)
        groups.setdefault(key, {}).setdefault(psf.tobytes(), []).append(i)
    for (shape, oversampling, binning, native), members in groups.items():
        distinct = np.stack([np.frombuffer(raw, np.float32).reshape(shape) for raw in members])
        report = tidy_psf(distinct, recentre=native)
        images = psf_at_stamp_scale(report.images, oversampling=oversampling, binning=binning, size=size)
        raised = (
            report.bad * int(Flag.BAD_PSF) | report.renormalised * int(Flag.PSF_NORMALISED) | report.recentred * int(Flag.PSF_RECENTRED)
        )
        wide = boxed(report.images[:, 0].astype(np.float64), binning, oversampling).astype(np.float32)
        for image, sharp, bits, rows in zip(images, wide, raised.astype(np.int64), members.values(), strict=True):
            out[rows] = image
            flags[rows] |= bits
            if native:
                sampling[rows] = oversampling * binning
                for row in rows:
                    fine[row] = sharp
    return out, flags, fine, sampling


def _psf_note(flags: int) -> str:
    return "the PSF is missing, not finite, or has no positive sum or core" if flags & Flag.BAD_PSF else ""
