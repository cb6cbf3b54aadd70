"""FITS files that may be broken: one careful way in, one kind of error out.

Astropy parses the headers; the pixels are taken from the file by their declared place, after checking that the file is long
enough to hold them. So a truncated file is an `InputError` that names both lengths, never a crash or a silent zero, and
cutting a window from a large tile touches the pages of that window alone. Tile-compressed and gzipped files are decompressed
in memory, up to a limit.
"""

__all__ = ["PARSE_ERRORS", "FitsFile", "FitsImage", "card_value"]

import gzip
import io
import math
import warnings
import zlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from astroflow.catalogs.paths import check_descriptors, check_file, looks_like
from astroflow.errors import InputError, nearest
from astroflow.types import Array

MAX_PIXELS = 4_000_000_000
MAX_HDUS = 100_000
MAX_UNPACKED_BYTES = 2 << 30
MAX_WHOLE = 2**62
UNSIGNED_ZERO = 2**63
"""BZERO of images of unsigned 64-bit integers."""
WHOLE_IMAGE_BYTES = 64 << 20
PARSE_ERRORS = (
    OSError, KeyError, AttributeError, TypeError, ValueError, IndexError, MemoryError, OverflowError, EOFError,
    zlib.error, fits.VerifyError,
)  # fmt: skip
KINDS = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


class FitsImage:
    """One image HDU: its header, its shape and, while its file is open, windows of its pixels.

    Attributes
    ----------
    header : astropy.io.fits.Header
        As it stands in the file.
    shape : tuple of int
        ``(H, W)``, or ``(planes, H, W)`` for a cube.
    where : str
        File and HDU, for messages.
    """

    def __init__(self, header: fits.Header, shape: tuple[int, ...], load: Callable[[], Array], where: str) -> None:
        self.header, self.shape, self.where = header, shape, where
        self._load = load
        self._scale, self._zero = (_scaling(header, key, default, where) for key, default in (("BSCALE", 1.0), ("BZERO", 0.0)))

    @cached_property
    def _raw(self) -> Array:
        try:
            return _quietly(self._load).reshape(self.shape)  # type: ignore[no-any-return]
        except PARSE_ERRORS as error:
            check_descriptors(error, self.where)
            raise InputError(f"the pixels of {self.where} cannot be read: {_line(error)}") from None

    @property
    def _blank(self) -> int | None:
        return card_value(self.header, "BLANK", self.where) if self._raw.dtype.kind in "iu" else None

    def floats(self, *window: slice | int) -> Array:
        """Return the pixels of a window (all of them by default) as native float32; BLANK becomes NaN."""
        raw = self._raw[window] if window else self._raw
        # Values beyond float32 become infinite, which every reader masks.
        with np.errstate(over="ignore", invalid="ignore"):
            if self._scale == 1.0 and self._zero == 0.0:
                out = np.array(raw, np.float32)
            else:
                out = (raw * self._scale + self._zero).astype(np.float32)
        if self._blank is not None:
            out[raw == self._blank] = np.nan
        return out

    def integers(self, *window: slice | int) -> Array:
        """Return the pixels of a window as exact int64, or uint64 where the file holds those; 0 where `undefined`."""
        values, undefined = self._whole_numbers(window)
        return np.where(undefined, 0, values)

    def undefined(self, *window: slice | int) -> Array:
        """Return which pixels of a window are no whole number (bool): BLANK, NaN, or floats that are infinite or beyond 2^62."""
        return self._whole_numbers(window)[1]

    def _whole_numbers(self, window: tuple[slice | int, ...]) -> tuple[Array, Array]:
        raw = self._raw[window] if window else self._raw
        undefined = raw == self._blank if self._blank is not None else np.zeros(raw.shape, bool)
        whole = raw.dtype.kind in "iu" and self._scale == 1.0
        if whole and raw.dtype.itemsize == 8 and self._zero == UNSIGNED_ZERO:
            # Modulo 2^64 the sum is exact.
            return raw.astype(np.uint64) + np.uint64(UNSIGNED_ZERO), undefined
        if whole and raw.dtype.kind == "u" and raw.dtype.itemsize == 8 and self._zero == 0:
            return raw.astype(np.uint64), undefined
        if whole and self._zero.is_integer() and abs(self._zero) < MAX_WHOLE:
            return raw.astype(np.int64) + np.int64(self._zero), undefined
        values = np.asarray(raw, np.float64) * self._scale + self._zero
        undefined = undefined | ~(np.abs(values) < MAX_WHOLE)
        return np.rint(np.where(undefined, 0, values)).astype(np.int64), undefined


class FitsFile:
    """An open FITS file; use it in a ``with`` block.

    Parameters
    ----------
    path : str or Path
        An ordinary file, plain or gzipped. Addresses and devices are refused.
    what : str
        How messages call it.

    Raises
    ------
    InputError
        If it is missing, empty, or not FITS.
    """

    def __init__(self, path: str | Path, what: str = "FITS file") -> None:
        self.path, self.what = Path(path), what
        self._bytes: bytes | None = None
        self._units: list[Any] = []
        self.size = check_file(path, what)
        try:
            # Astropy leaves a file open that it fails to parse, so the file is opened here.
            self._stream: BinaryIO = open(path, "rb")  # noqa: SIM115 - closed by `close`
        except OSError as error:
            check_descriptors(error, path)
            raise InputError(f"{what} {path} cannot be read: {error}") from None
        try:
            self._hdus = self._parsed()
        except PARSE_ERRORS as error:
            self._stream.close()
            check_descriptors(error, path)
            if isinstance(error, InputError):
                raise
            raise InputError(f"{what} {path} cannot be read as FITS: {_line(error)}") from None

    def __enter__(self) -> "FitsFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and forget what was unpacked of it; pixels that were not read yet cannot be read any more."""
        self._hdus.close()
        self._stream.close()
        self._bytes = None

    def units(self, up_to: int | None = None) -> list[Any]:
        """Return the HDUs as astropy objects, at least to number `up_to` where there are so many; all of them by default.

        Astropy goes round for ever in a header with negative lengths, so each HDU has to end behind its start before the next is read.
        """
        while up_to is None or len(self._units) <= up_to:
            number = len(self._units)
            try:
                unit = self._hdus[number]
            except IndexError:
                break
            place = unit.fileinfo()
            if number >= MAX_HDUS or place["datSpan"] < 0 or place["datLoc"] <= place["hdrLoc"]:
                raise InputError(f"{self.what} {self.path} is damaged at HDU {number}: lengths in its header make no sense")
            self._units.append(unit)
        return self._units

    def image(self, hdu: int | str | None = None, *, cube: bool = False) -> FitsImage:
        """Return one image of the file.

        Parameters
        ----------
        hdu : int or str, optional
            Number (0 = primary) or name. By default the only image of the file; several are an error that lists them.
        cube : bool
            Let ``(planes, H, W)`` pass; otherwise an image has two axes, besides axes of length one.
        """
        try:
            found: FitsImage = _quietly(lambda: self._image(hdu, cube))
            return found
        except PARSE_ERRORS as error:
            check_descriptors(error, self.path)
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.what} {self.path} cannot be read as FITS: {_line(error)}") from None

    def _image(self, hdu: int | str | None, cube: bool) -> FitsImage:
        number = self._number(hdu)
        unit = self._units[number]
        where = f"{self.path} [HDU {number}{f' {unit.name}' if unit.name else ''}]"
        shape = _shape(unit)
        if not unit.is_image or shape is None:
            raise InputError(f"{self.what} {where} holds no image; images are in {self.listing() or 'no HDU of this file'}")
        if any(side < 1 for side in shape) or math.prod(shape) > MAX_PIXELS:
            raise InputError(
                f"{self.what} {where} declares {' x '.join(map(str, shape))} pixels; expected at least 1 and at most {MAX_PIXELS} in all"
            )
        kept = tuple(side for side in shape[:-2] if side > 1) + shape[-2:]
        if len(kept) < 2 or len(kept) > 2 + cube:
            wanted = "two axes, or three for a cube" if cube else "two axes"
            raise InputError(f"{self.what} {where} has {len(shape)} axes, {' x '.join(map(str, shape))}; expected {wanted}")
        if isinstance(unit, fits.CompImageHDU):
            return self._compressed(unit, kept, where)
        bits = unit.header.get("BITPIX")
        if bits not in KINDS:
            raise InputError(f"{self.what} {where} has BITPIX = {bits!r}; FITS knows {', '.join(map(str, KINDS))}")
        kind = np.dtype(KINDS[bits])
        start = int(unit.fileinfo()["datLoc"])
        end = start + kind.itemsize * math.prod(shape)
        if end > self.size:
            raise InputError(f"{self.what} {where} is truncated: its pixels end at byte {end}, the file at byte {self.size}")
        return FitsImage(unit.header, kept, lambda: self._pixels(kind, start, end), where)

    def _pixels(self, kind: np.dtype[Any], start: int, end: int) -> Array:
        count = (end - start) // kind.itemsize
        if self._stream.closed:
            raise ValueError("the file was closed before its pixels were read")
        if self._bytes is not None:
            return np.frombuffer(self._bytes, kind, count, start)
        if end - start > WHOLE_IMAGE_BYTES:
            return np.memmap(self.path, kind, "r", start, (count,))
        return np.fromfile(self.path, kind, count, offset=start)

    def _compressed(self, unit: fits.CompImageHDU, shape: tuple[int, ...], where: str) -> FitsImage:
        if math.prod(shape) * 8 > MAX_UNPACKED_BYTES:
            raise InputError(f"{self.what} {where} unpacks to more than {MAX_UNPACKED_BYTES >> 20} MiB; unpack it on disk first (funpack)")
        header = unit.header.copy()
        for key in ("BSCALE", "BZERO", "BLANK"):
            header.remove(key, ignore_missing=True)
        return FitsImage(header, shape, lambda: np.asarray(unit.data), where)

    def _number(self, hdu: int | str | None) -> int:
        if isinstance(hdu, str):
            names = [unit.name for unit in self.units()]
            if hdu.upper() not in names:
                raise InputError(
                    f"{self.what} {self.path} has no HDU called {hdu!r}; it has {self.listing(True)}.{nearest(hdu.upper(), names)}"
                )
            return names.index(hdu.upper())
        if hdu is not None:
            if not 0 <= hdu < len(self.units(hdu)):
                raise InputError(f"{self.what} {self.path} has no HDU {hdu}; it has {self.listing(True)}")
            return hdu
        images = [number for number, unit in enumerate(self.units()) if unit.is_image and _shape(unit) is not None]
        if len(images) == 1:
            return images[0]
        if not images:
            raise InputError(f"{self.what} {self.path} holds no image; it has {self.listing(True)}")
        raise InputError(f"{self.what} {self.path} holds {len(images)} images: {self.listing()}. Say which one with `hdu`")

    def listing(self, everything: bool = False) -> str:
        """Name the HDUs that hold images, or all, at most twelve."""
        lines = [
            f"{number} {unit.name or '(no name)'}"
            for number, unit in enumerate(self.units())
            if everything or (unit.is_image and _shape(unit) is not None)
        ]
        return ", ".join(lines[:12]) + (f" and {len(lines) - 12} more" if len(lines) > 12 else "")

    def _parsed(self) -> fits.HDUList:
        head = self._stream.read(512)
        if head.startswith(b"\x1f\x8b"):
            self._bytes = self._unpacked()
            self._stream.close()
            self._stream = io.BytesIO(self._bytes)
            self.size, head = len(self._bytes), self._bytes[:512]
        if not head.startswith(b"SIMPLE  ="):
            raise InputError(f"{self.what} {self.path} is not FITS: it looks like {looks_like(head)}")
        self._stream.seek(0)
        return _quietly(lambda: fits.open(self._stream, memmap=False, lazy_load_hdus=True))

    def _unpacked(self) -> bytes:
        out = bytearray()
        with gzip.open(self.path) as stream:
            while block := stream.read(1 << 20):
                out += block
                if len(out) > MAX_UNPACKED_BYTES:
                    raise InputError(
                        f"{self.what} {self.path} unpacks to more than {MAX_UNPACKED_BYTES >> 20} MiB; unpack it on disk first"
                    )
        return bytes(out)


def _quietly(read: Callable[[], Any]) -> Any:
    # Astropy warns of what is checked here with an error of its own.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        return read()


def card_value(header: fits.Header, key: str, where: str, default: Any = None) -> Any:
    """Return the value of a header's card, or the default where there is none.

    Raises
    ------
    InputError
        If the card is damaged.
    """
    try:
        return header.get(key, default)
    except PARSE_ERRORS as error:
        raise InputError(f"{where} has a damaged header card {key}: {_line(error)}") from None


def _shape(unit: Any) -> tuple[int, ...] | None:
    """Return the declared shape, slowest axis first, or None for an HDU without pixels."""
    header = unit.header
    axes = header.get("NAXIS", 0)
    if not isinstance(axes, int) or axes < 1:
        return None
    return tuple(int(header[f"NAXIS{axis}"]) for axis in range(axes, 0, -1))


def _scaling(header: fits.Header, key: str, default: float, where: str) -> float:
    value = card_value(header, key, where, default)
    good = isinstance(value, int | float) and math.isfinite(value) and abs(value) < 1e30 and (key == "BZERO" or value != 0)
    if not good:
        raise InputError(f"{where} has {key} = {value!r}; expected a finite number{'' if key == 'BZERO' else ' other than 0'}")
    return float(value)


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
