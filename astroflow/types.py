"""The named results that the layers share: `Stamps`, `Cutout`, `Noiseless` and `Simulation`.

A band axis is there from the start: images are ``(N, B, H, W)``, with B = 1 for one band.
Arrays follow ``image[y, x]``; the stamp's centre is ``((W - 1) / 2, (H - 1) / 2)``.
"""

__all__ = ["Array", "Cutout", "Noiseless", "Progress", "Simulation", "Stamps"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from astroflow.errors import InputError

Array = np.ndarray[Any, Any]
Progress = Callable[[str, int, int, dict[str, float]], None]
"""Called as ``progress(stage, done, total, figures)`` while something long goes on."""

CORRELATION_TOLERANCE = 1e-4
"""How far a noise correlation may be from one at lag 0 and from its own mirror image: what rounding does."""


@dataclass(frozen=True, kw_only=True)
class Stamps:
    """A batch of observed postage stamps, with all that is known of how they were observed.

    It checks itself: shapes, kinds and scalars are errors here. Bad *values* in a row (NaN pixels, a broken PSF)
    are not: they become flags on that row when a posterior is asked for, so that a batch never fails for one row.

    Parameters
    ----------
    images : array_like
        ``(N, B, H, W)`` surface brightness summed over each pixel, in the unit that `zero_point` defines.
        ``(H, W)`` and ``(N, H, W)`` are taken as one band.
    psf : array_like
        ``(N, B, h, w)`` point-spread functions that include the pixel, at the image's scale divided by
        `psf_oversampling`. ``(h, w)`` and ``(B, h, w)`` serve every object.
    rms : array_like
        Standard deviation of the noise *without* the galaxy's own photon noise, image unit; anything that
        broadcasts from the left to ``(N, B, H, W)``: a scalar, ``(N,)``, ``(N, B)``, a full map, or ``(H, W)`` for all.
    zero_point : float
        AB magnitude of one image unit.
    pixel_scale_arcsec : float
        Side of a native pixel, before any `binning`, arcsec.
    mask : array_like of bool, optional
        True where a pixel is to be ignored. Pixels that are not finite are ignored as well.
    gain : float or array_like, optional
        Electrons per image unit, ``(N, B)``: the galaxy's photon noise has variance ``model / gain``.
        Infinite (the default) means none.
    binning : array_like of int, optional
        ``(N,)``: how many native pixels on a side were summed into each pixel of this stamp.
    band_present : array_like of bool, optional
        ``(N, B)``: False where a band was not observed.
    psf_oversampling : int, optional
        PSF pixels per image pixel along one side.
    noise_correlation : array_like, optional
        ``(N, B, L, L)`` with odd L, of the noise in `rms`: element ``[L // 2 + dy, L // 2 + dx]`` is the correlation of two pixels of the
        stamp (binned ones where it is binned) that lie ``(dx, dy)`` apart; beyond, it is zero. ``(L, L)`` and ``(B, L, L)`` serve every
        object. None: not stated, which a posterior takes for the correlation it was trained with; ``[[1.0]]`` states independent pixels.
    ids : sequence of int or str, optional
        Unique names of the objects; 0, 1, ... by default. They seed the posterior draws.

    Raises
    ------
    InputError
        If shapes disagree, ids repeat, a scalar is out of range, or `noise_correlation` is none: not finite, not one at lag 0, beyond
        one elsewhere, or not the same at opposite lags.
    """

    # Typed as what they are once constructed; scalars, lists and None go in.
    images: Array
    psf: Array
    rms: Array
    zero_point: float
    pixel_scale_arcsec: float
    mask: Array = None  # type: ignore[assignment]
    gain: Array = np.inf  # type: ignore[assignment]
    binning: Array = 1  # type: ignore[assignment]
    band_present: Array = None  # type: ignore[assignment]
    psf_oversampling: int = 1
    noise_correlation: Array | None = None
    ids: Array = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        images = _numeric("images", self.images)
        if images.ndim not in (2, 3, 4):
            raise InputError(f"`images` must be (H, W), (N, H, W) or (N, B, H, W); got shape {images.shape}")
        single = images.ndim == 2
        if single:
            images = images[None, None]
        elif images.ndim == 3:
            images = images[:, None]
        n, bands, height, width = images.shape
        if height < 3 or width < 3:
            raise InputError(f"`images` must be at least 3 x 3 pixels; got {height} x {width}")
        put("images", np.ascontiguousarray(images))
        put("psf", _psf_array(self.psf, n, bands))
        put("rms", _spread("rms", _numeric("rms", self.rms), images.shape, single))
        put("mask", _spread("mask", _boolean("mask", self.mask, False), images.shape, single))
        put("gain", _spread("gain", _numeric("gain", self.gain), (n, bands), single))
        put("band_present", _spread("band_present", _boolean("band_present", self.band_present, True), (n, bands), single))
        put("binning", _spread("binning", _counting("binning", self.binning), (n,), single))
        put("ids", _checked_ids(self.ids, n))
        put("zero_point", _finite("zero_point", self.zero_point))
        put("pixel_scale_arcsec", _finite("pixel_scale_arcsec", self.pixel_scale_arcsec))
        if self.pixel_scale_arcsec <= 0:
            raise InputError(f"`pixel_scale_arcsec` must be positive; got {self.pixel_scale_arcsec}")
        oversampling = _counting("psf_oversampling", self.psf_oversampling)
        if oversampling.ndim:
            raise InputError(f"`psf_oversampling` must be one number; got shape {oversampling.shape}")
        put("psf_oversampling", int(oversampling))
        if self.noise_correlation is not None:
            put("noise_correlation", _correlation_array(self.noise_correlation, n, bands))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def stamp_scale_arcsec(self) -> Array:
        """``(N,)`` side of the pixels of each stamp, binning included, arcsec."""
        return np.asarray(self.pixel_scale_arcsec * self.binning)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(N, B, H, W)``."""
        n, bands, height, width = self.images.shape
        return n, bands, height, width

    def __getitem__(self, rows: int | slice | Sequence[int] | Array) -> "Stamps":
        """Select objects by a position, a slice, a list of positions or a boolean array; the result is a batch again.

        What a position or a slice gives shares its pixels with this batch, and cannot be written to.
        """
        if isinstance(rows, int | np.integer):
            position = range(len(self))[rows]  # an IndexError past the end, which also ends a loop over the stamps
            rows = slice(position, position + 1)
        return self._picked(rows, _checked_ids(self.ids[rows], len(self.ids[rows])))

    def repeated(self, rows: Array) -> "Stamps":
        """Select objects by positions, any of them any number of times; in the result they are called 0, 1, ..."""
        return self._picked(rows, np.arange(len(rows)))

    def _picked(self, rows: slice | Sequence[int] | Array, ids: Array) -> "Stamps":
        by_row = ("images", "psf", "rms", "mask", "gain", "band_present", "binning", "noise_correlation")
        # all else was checked when these stamps were made, and checking copies: a part of a large batch would cost as much as the batch
        part = object.__new__(type(self))
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in by_row and value is not None:
                value = value[rows]
                if isinstance(rows, slice):
                    value.setflags(write=False)
            object.__setattr__(part, field.name, value)
        object.__setattr__(part, "ids", ids)
        return part

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stamps):
            return NotImplemented
        pairs = [(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return all(_equal(a, b) for a, b in pairs)


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """One object as it was read, before it is framed to a network's stamp: any size, any PSF, perhaps unusable.

    Parameters
    ----------
    identity : int or str
        The object's id.
    image : ndarray or None
        ``(B, H, W)`` float32 at the native pixel scale, in the unit of `zero_point`; None where nothing could be read.
    rms, mask : ndarray or None
        ``(B, H, W)``: noise without the galaxy's photons; True = ignore.
    psf : ndarray or None
        ``(B, h, w)``, pixel included, native scale divided by `psf_oversampling`.
    zero_point, pixel_scale_arcsec : float
        As in `Stamps`.
    x, y : float
        Pixel position of the object in `image`; its centre, ``((W-1)/2, (H-1)/2)``, unless given.
    gain : float
        Electrons per image unit; infinite for none.
    noise_correlation : ndarray or None
        ``(B, L, L)``, of native pixels; otherwise as in `Stamps`.
    size_pixels : float or None
        A guess of the half-light radius, native pixels, that helps to choose the binning.
    flags : int
        Bits of `astroflow.posteriors.Flag` that reading has raised.
    note : str
        Why it is unusable, in a sentence; empty if it is not.
    """

    identity: int | str
    image: Array | None
    rms: Array | None
    mask: Array | None
    psf: Array | None
    zero_point: float
    pixel_scale_arcsec: float
    psf_oversampling: int = 1
    x: float | None = None
    y: float | None = None
    gain: float = np.inf
    noise_correlation: Array | None = None
    size_pixels: float | None = None
    flags: int = 0
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Noiseless:
    """Simulated galaxies before any noise: what a training set stores.

    `images` ``(N, B, H, W)`` and `psf` ``(N, B, h, w)`` are float32, `theta` ``(N, P)`` float32 in physical units,
    `binning` ``(N,)`` and `ids` ``(N,)``.
    """

    theta: Array
    images: Array
    psf: Array
    binning: Array
    ids: Array

    def __len__(self) -> int:
        return len(self.theta)


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Parameters and the stamps drawn with them.

    `theta` is ``(N, P)`` float32 in physical units; `snr` ``(N,)`` is the true signal-to-noise ratio
    ``sqrt(m^T C0^-1 m)`` over unmasked pixels; where noise is correlated, that of pixels weighted as if it were not.
    """

    theta: Array
    stamps: Stamps
    snr: Array

    def __len__(self) -> int:
        return len(self.theta)

    def __getitem__(self, rows: slice | Sequence[int] | Array) -> "Simulation":
        """Select galaxies as `Stamps` does."""
        return Simulation(theta=self.theta[rows], stamps=self.stamps[rows], snr=self.snr[rows])

    @classmethod
    def joined(cls, parts: "Sequence[Simulation]") -> "Simulation":
        """Put simulations of one simulator one after the other."""
        first = parts[0].stamps

        def stack(name: str) -> Array:
            return np.concatenate([np.asarray(getattr(part.stamps, name)) for part in parts])

        stamps = Stamps(
            images=stack("images"), psf=stack("psf"), rms=stack("rms"), mask=stack("mask"), gain=stack("gain"),
            binning=stack("binning"), ids=stack("ids"), zero_point=first.zero_point, pixel_scale_arcsec=first.pixel_scale_arcsec,
            noise_correlation=None if first.noise_correlation is None else stack("noise_correlation"),
        )  # fmt: skip
        return cls(theta=np.concatenate([p.theta for p in parts]), stamps=stamps, snr=np.concatenate([p.snr for p in parts]))


def _equal(one: Any, other: Any) -> bool:
    arrays = [isinstance(value, np.ndarray) for value in (one, other)]
    if all(arrays):
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    return not any(arrays) and bool(one == other)


def _numeric(name: str, value: Any) -> Array:
    """Return float32 in the machine's byte order (survey files are big-endian); masked values become NaN."""
    if value is None:
        raise InputError(f"`{name}` is missing")
    if isinstance(value, np.ma.MaskedArray):
        value = np.ma.filled(value.astype(np.float64), np.nan)
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise InputError(f"`{name}` must be numbers; got an array of {array.dtype}")
    with np.errstate(over="ignore"):  # beyond float32 is infinite, hence ignored like any pixel that is not finite
        return np.asarray(array.astype(np.float32))


def _boolean(name: str, value: Any, default: bool) -> Array:
    if value is None:
        return np.array(default)
    array = np.ma.filled(value, True) if isinstance(value, np.ma.MaskedArray) else np.asarray(value)
    if array.dtype.kind == "b":
        return np.array(array)
    if array.dtype.kind in "iu" or (array.dtype.kind == "f" and np.isin(array, (0, 1)).all()):
        return np.asarray(array != 0)
    raise InputError(f"`{name}` must be true or false (0 or 1) everywhere; got an array of {array.dtype} with other values")


def _counting(name: str, value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all() or (array < 1).any() or (array != np.floor(array)).any():
        raise InputError(f"`{name}` must be a whole number of at least 1; got {value!r}")
    return array.astype(np.int64)


def _finite(name: str, value: Any) -> float:
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "fiu" or not np.isfinite(array):
        raise InputError(f"`{name}` must be one finite number; got {value!r}")
    return float(array)


def _spread(name: str, array: Array, shape: tuple[int, ...], single: bool) -> Array:
    """Broadcast from the left: (N,) and (N, B) fill a stamp; (H, W) is one map for every stamp."""
    given = array.shape
    if len(shape) == 4 and array.ndim == 2 and given == shape[2:] and (single or given != shape[:2]):
        array = array[None, None]
    elif len(shape) == 4 and array.ndim == 3 and given == (shape[0], *shape[2:]):
        array = array[:, None]
    else:
        array = array.reshape(given + (1,) * (len(shape) - array.ndim))
    try:
        return np.ascontiguousarray(np.broadcast_to(array, shape))
    except ValueError:
        raise InputError(f"`{name}` has shape {given}; expected {shape} or a shape that fills it") from None


def _psf_array(value: Any, n: int, bands: int) -> Array:
    if value is None:
        raise InputError("`psf` is missing: give one image of the point-spread function, or one per object")
    psf = _numeric("psf", value)
    if psf.ndim == 2:
        psf = psf[None, None]
    elif psf.ndim == 3:
        psf = psf[:, None] if bands == 1 and psf.shape[0] == n else psf[None]
    if psf.ndim != 4 or 0 in psf.shape[2:]:
        raise InputError(f"`psf` must be (h, w), (B, h, w) or (N, B, h, w); got shape {np.shape(value)}")
    try:
        return np.ascontiguousarray(np.broadcast_to(psf, (n, bands, *psf.shape[2:])))
    except ValueError:
        raise InputError(f"`psf` has shape {np.shape(value)}; expected {(n, bands)} + (h, w)") from None


def _correlation_array(value: Any, n: int, bands: int) -> Array:
    given = _numeric("noise_correlation", value)
    expected = "expected (L, L), (B, L, L) or (N, B, L, L) with odd L"
    if given.ndim not in (2, 3, 4) or given.shape[-1] != given.shape[-2] or given.shape[-1] % 2 == 0:
        raise InputError(f"`noise_correlation` has shape {given.shape}; {expected}")
    try:
        maps = np.broadcast_to(given, (n, bands, *given.shape[-2:]))
    except ValueError:
        raise InputError(f"`noise_correlation` has shape {given.shape} for {n} objects in {bands} bands; {expected}") from None
    if not np.isfinite(given).all():
        raise InputError("`noise_correlation` holds values that are not finite")
    middle = given.shape[-1] // 2
    centre = given[..., middle, middle]
    if (np.abs(centre - 1) > CORRELATION_TOLERANCE).any():
        worst = centre.ravel()[np.abs(centre - 1).argmax()]
        raise InputError(f"`noise_correlation` must be 1 in its middle (lag 0); it is {worst:g}")
    if (np.abs(given) > 1 + CORRELATION_TOLERANCE).any():
        raise InputError(f"`noise_correlation` must lie between -1 and 1; the largest value is {np.abs(given).max():g}")
    if (np.abs(given - given[..., ::-1, ::-1]) > CORRELATION_TOLERANCE).any():
        raise InputError("`noise_correlation` must be the same at opposite lags: equal to itself turned by 180 degrees")
    return np.ascontiguousarray(maps)


def _checked_ids(ids: Any, n: int) -> Array:
    array = np.arange(n) if ids is None else np.asarray(ids)
    if array.dtype.kind in "OT" and all(isinstance(i, str) for i in array.ravel().tolist()):
        array = array.astype(str)  # pandas and variable-length strings
    if array.dtype.kind not in "iuUS" and array.size:
        raise InputError(f"`ids` must be integers or strings; got {array.dtype}")
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise InputError("`ids` must fit 64-bit signed integers; give larger ones as strings")
    array = array.astype(str if array.dtype.kind in "US" else np.int64)
    if array.shape != (n,):
        raise InputError(f"`ids` must be one per image: expected {n}, got shape {array.shape}")
    unique, counts = np.unique(array, return_counts=True)
    if len(unique) != n:
        twice = ", ".join(str(i) for i in unique[counts > 1][:5])
        raise InputError(f"`ids` must be unique; these come more than once: {twice}")
    return array
