"""The named results that the layers share: `Stamps`, `Cutout`, `Noiseless` and `Simulation`.

A band axis is there from the start: images are ``(N, B, H, W)``, with B = 1 for one band.
Arrays follow ``image[y, x]``; the stamp's centre is ``((W - 1) / 2, (H - 1) / 2)``.
"""

__all__ = ["Array", "Cutout", "Noiseless", "Simulation", "Stamps"]

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from astroflow.errors import InputError

Array = np.ndarray[Any, Any]


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
        broadcasts from the left to ``(N, B, H, W)``: a scalar, ``(N,)``, ``(N, B)``, or a full map (``(H, W)`` for one stamp).
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
        Stationary pixel correlation of the noise. Only None (independent pixels) is supported.
    ids : sequence of int or str, optional
        Unique names of the objects; 0, 1, ... by default. They seed the posterior draws.

    Raises
    ------
    InputError
        If shapes disagree, ids repeat, or a scalar is out of range.
    """

    images: Array
    psf: Array
    rms: Array
    zero_point: float
    pixel_scale_arcsec: float
    mask: Array | None = None
    gain: Array | float = np.inf
    binning: Array | int = 1
    band_present: Array | None = None
    psf_oversampling: int = 1
    noise_correlation: None = None
    ids: Array | Sequence[int] | Sequence[str] | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        images = _numeric("images", self.images)
        if images.ndim not in (2, 3, 4):
            raise InputError(f"`images` must be (H, W), (N, H, W) or (N, B, H, W); got shape {images.shape}")
        single = images.ndim == 2
        images = {2: images[None, None] if single else None, 3: images[:, None] if images.ndim == 3 else None, 4: images}[
            images.ndim
        ]
        n, bands, height, width = images.shape
        if height < 3 or width < 3:
            raise InputError(f"`images` must be at least 3 x 3 pixels; got {height} x {width}")
        put("images", np.ascontiguousarray(images))
        put("psf", _psf_array(self.psf, n, bands))
        put("rms", _spread("rms", self.rms, images.shape, single))
        mask = np.zeros((1, 1, 1, 1), bool) if self.mask is None else _boolean("mask", self.mask)
        put("mask", _spread("mask", mask, images.shape, single, dtype=bool))
        put("gain", _spread("gain", self.gain, (n, bands), single))
        put("band_present", _spread("band_present", True if self.band_present is None else self.band_present, (n, bands), single, dtype=bool))
        put("binning", _spread("binning", self.binning, (n,), single, dtype=np.int64))
        put("ids", _checked_ids(self.ids, n))
        for name in ("zero_point", "pixel_scale_arcsec"):
            value = getattr(self, name)
            if value is None or not np.isscalar(value) or not np.isfinite(float(value)):
                raise InputError(f"`{name}` must be one finite number; got {value!r}")
            put(name, float(value))
        if self.pixel_scale_arcsec <= 0:
            raise InputError(f"`pixel_scale_arcsec` must be positive; got {self.pixel_scale_arcsec}")
        if self.psf_oversampling < 1 or int(self.psf_oversampling) != self.psf_oversampling:
            raise InputError(f"`psf_oversampling` must be a positive integer; got {self.psf_oversampling!r}")
        if np.any(np.asarray(self.binning) < 1):
            raise InputError("`binning` must be at least 1 for every stamp")
        if self.noise_correlation is not None:
            raise InputError("`noise_correlation` must be None: correlated noise is not supported by this version")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def stamp_scale_arcsec(self) -> Array:
        """``(N,)`` side of the pixels of each stamp, binning included, arcsec."""
        return self.pixel_scale_arcsec * self.binning  # type: ignore[no-any-return]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(N, B, H, W)``."""
        return self.images.shape  # type: ignore[return-value]

    def __getitem__(self, rows: slice | Sequence[int] | Array) -> "Stamps":
        """Select objects by a slice, a list of positions or a boolean array."""
        if isinstance(rows, int | np.integer):
            rows = slice(int(rows), int(rows) + 1 or None)
        picked = {
            f.name: getattr(self, f.name)[rows]
            for f in fields(self)
            if f.name in ("images", "psf", "rms", "mask", "gain", "band_present", "binning", "ids")
        }
        return replace(self, **picked)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stamps):
            return NotImplemented
        pairs = [(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return all(
            (np.array_equal(a, b, equal_nan=a.dtype.kind == "f") if isinstance(a, np.ndarray) else a == b) for a, b in pairs
        )


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
    ``sqrt(m^T C0^-1 m)`` over unmasked pixels.
    """

    theta: Array
    stamps: Stamps
    snr: Array

    def __len__(self) -> int:
        return len(self.theta)


def _numeric(name: str, value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise InputError(f"`{name}` must be numbers; got an array of {array.dtype}")
    # Survey files are big-endian; float32 also copies to the native byte order.
    return array.astype(np.float32)


def _boolean(name: str, value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind in "iu" or np.isin(array, (0, 1)).all():
        return array != 0
    raise InputError(f"`{name}` must be boolean, True = ignore; got {array.dtype} values other than 0 and 1")


def _spread(name: str, value: Any, shape: tuple[int, ...], single: bool, dtype: Any = np.float32) -> Array:
    """Broadcast from the left: (N,) and (N, B) fill a stamp; (H, W) is a map of the only stamp."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise InputError(f"`{name}` must be numbers; got an array of {array.dtype}")
    array = array.astype(dtype)
    if len(shape) == 4 and array.ndim == 2 and array.shape == shape[2:] and (single or array.shape != shape[:2]):
        array = array[None, None]
    elif len(shape) == 4 and array.ndim == 3 and array.shape == (shape[0], *shape[2:]):
        array = array[:, None]
    else:
        array = array.reshape(array.shape + (1,) * (len(shape) - array.ndim))
    try:
        return np.ascontiguousarray(np.broadcast_to(array, shape))
    except ValueError:
        raise InputError(f"`{name}` has shape {np.shape(value)}; expected {shape} or a shape that fills it") from None


def _psf_array(value: Any, n: int, bands: int) -> Array:
    if value is None:
        raise InputError("`psf` is missing: give one image of the point-spread function, or one per object")
    psf = _numeric("psf", value)
    if psf.ndim == 2:
        psf = psf[None, None]
    elif psf.ndim == 3:
        psf = psf[:, None] if bands == 1 and psf.shape[0] == n else psf[None]
    if psf.ndim != 4:
        raise InputError(f"`psf` must be (h, w), (B, h, w) or (N, B, h, w); got shape {np.shape(value)}")
    try:
        return np.ascontiguousarray(np.broadcast_to(psf, (n, bands, *psf.shape[2:])))
    except ValueError:
        raise InputError(f"`psf` has shape {np.shape(value)}; expected {(n, bands)} + (h, w)") from None


def _checked_ids(ids: Any, n: int) -> Array:
    array = np.arange(n) if ids is None else np.asarray(ids)
    if array.dtype.kind not in "iuUS":
        raise InputError(f"`ids` must be integers or strings; got {array.dtype}")
    array = array.astype(str) if array.dtype.kind in "US" else array.astype(np.int64)
    if array.shape != (n,):
        raise InputError(f"`ids` must be one per image: expected {n}, got shape {array.shape}")
    unique, counts = np.unique(array, return_counts=True)
    if len(unique) != n:
        twice = ", ".join(str(i) for i in unique[counts > 1][:5])
        raise InputError(f"`ids` must be unique; these come more than once: {twice}")
    return array
