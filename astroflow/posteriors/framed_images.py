"""The images of framed objects, with their noise and masks: cropped, padded and binned; those of one shape together.

What is wrong with an object becomes its flag and a sentence, in the order of the questions: is there a position, is there data, is there
noise, is there anything near the object? The first no is the answer.
"""

__all__ = ["LARGEST", "MASKED_LIMIT", "FramedImage", "frame_images", "framed_correlation"]

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from astroflow.errors import InputError
from astroflow.posteriors.apparent_size import apparent_radius
from astroflow.posteriors.flags import UNUSABLE, Flag
from astroflow.sims.binning import bin_images, bin_mask, bin_rms
from astroflow.sims.correlation import binned_correlation
from astroflow.sims.stamp import StampSpec
from astroflow.types import Array, Cutout

RADIUS_SHARE = 0.1
"""The binning is the finest whose stamp side times this holds the apparent half-light radius."""
CROPPED_SHARE = 0.25
MASKED_LIMIT = 0.25
LARGEST = 1e30
"""Values and noise beyond it are no numbers that a network could be given."""
AT_ONCE = 2**20
"""Pixels that are worked on together: more would leave the processor's cache."""


class FramedImage(NamedTuple):
    """One object's: arrays ``(1, size, size)``, and how the frame was chosen."""

    image: Array
    rms: Array
    mask: Array
    binning: int
    shift: tuple[float, float]
    """The frame's centre minus the asked position, native pixels along (x, y)."""
    flags: int
    note: str
    correlation: Array | None = None
    """``(L, L)`` of the framed pixels' noise; None where it is unknown."""


def frame_images(cutouts: Sequence[Cutout], spec: StampSpec, kept: Sequence[int | None], typical: Array | None) -> list[FramedImage]:
    """Frame images one by one or together, which makes no difference.

    Parameters
    ----------
    cutouts : sequence of Cutout
        Checked already: one band, maps of the image's shape.
    spec : StampSpec
        What the network takes.
    kept : sequence of int or None
        The binning of stamps that have the network's size already and keep it; None for those that are to be cut.
    typical : ndarray, optional
        ``(L, L)`` correlation of native pixels' noise where a cutout states none.
    """
    framed: dict[int, FramedImage] = {}
    alike: dict[tuple[int, int, bool], list[int]] = {}
    for i, cutout in enumerate(cutouts):
        if cutout.image is None or cutout.flags & UNUSABLE:
            flag = 0 if cutout.flags & UNUSABLE else int(Flag.NO_DATA)
            framed[i] = _blank(spec, int(cutout.flags) | flag, cutout.note or "no image")
        else:
            _, height, width = np.shape(np.asarray(cutout.image))
            alike.setdefault((height, width, kept[i] is None), []).append(i)
    known: dict[tuple[bytes, int], Array] = {}
    for (height, width, _), members in alike.items():
        at_once = max(AT_ONCE // max(height * width, 1), 1)
        for start in range(0, len(members), at_once):
            some = members[start : start + at_once]
            group = _Group([cutouts[i] for i in some], (height, width), spec, [kept[i] for i in some], typical, known)
            framed |= dict(zip(some, group.framed(), strict=True))
    return [framed[i] for i in range(len(cutouts))]


class _Group:
    """Cutouts of one shape ``(N, H, W)``."""

    def __init__(
        self,
        cutouts: list[Cutout],
        shape: tuple[int, int],
        spec: StampSpec,
        kept: list[int | None],
        typical: Array | None,
        known: dict[tuple[bytes, int], Array],
    ) -> None:
        self.shape = shape
        self.cutouts, self.spec, self.kept, self.typical, self.known = cutouts, spec, kept, typical, known
        self.native = [typical if c.noise_correlation is None else np.asarray(c.noise_correlation)[0] for c in cutouts]
        self.flags = np.array([int(cutout.flags) for cutout in cutouts], np.int64)
        self.refused: dict[int, tuple[int, str]] = {}

    def framed(self) -> list[FramedImage]:
        n, (height, width) = len(self.cutouts), self.shape
        x, y = (
            np.array([(side - 1) / 2 if place is None else float(place) for place in places])
            for side, places in ((width, (c.x for c in self.cutouts)), (height, (c.y for c in self.cutouts)))
        )
        gain = np.array([cutout.gain for cutout in self.cutouts])
        nowhere = ~(np.isfinite(x) & np.isfinite(y))
        self.refuse(nowhere, Flag.BAD_POSITION, lambda i: f"the pixel position ({x[i]:g}, {y[i]:g}) is not finite")
        self.refuse(~(gain > 0), Flag.BAD_RMS, lambda i: f"the gain must be positive; it is {gain[i]:g}")
        image, rms, mask = self._cleaned()
        binning, shift = np.array([b or 1 for b in self.kept]), np.zeros((n, 2))
        if self.kept[0] is None:
            x, y = np.where(np.isfinite(x), x, 0), np.where(np.isfinite(y), y, 0)
            binning = self._binning(image, rms, mask, x, y)
            frames, shift = self._cut(image, rms, mask, x, y, binning)
        else:
            for i in np.flatnonzero(~np.isin(binning, self.spec.binning)):
                taken = list(self.spec.binning)
                raise InputError(f"stamp {self.cutouts[i].identity!r} has binning {binning[i]}; this bundle takes {taken}")
            frames = image, rms, mask
        self._look(*frames)
        return [self._one(i, *frames, int(binning[i]), (float(shift[i, 0]), float(shift[i, 1]))) for i in range(n)]

    def refuse(self, which: Array, flag: Flag, why: Callable[[int], str]) -> None:
        """Note why rows are unusable, where nothing is wrong with them yet."""
        for i in np.flatnonzero(which).tolist():
            self.refused.setdefault(i, (int(self.flags[i]) | int(flag), why(i)))

    def _cleaned(self) -> tuple[Array, Array, Array]:
        """Return images, noise and masks ``(N, H, W)`` of which every pixel is a number; bad ones are masked."""
        nothing, clear = np.full((1, *self.shape), np.nan, np.float32), np.zeros((1, *self.shape), bool)
        image = np.stack([np.asarray(c.image, np.float32)[0] for c in self.cutouts])
        rms = np.stack([(nothing if c.rms is None else np.asarray(c.rms, np.float32))[0] for c in self.cutouts])
        given = np.stack([(clear if c.mask is None else np.asarray(c.mask, bool))[0] for c in self.cutouts])
        with np.errstate(invalid="ignore"):  # comparisons with NaN are false
            bad = ~(np.abs(image) <= LARGEST)
            self.refuse((given | bad).all((1, 2)), Flag.NO_DATA, lambda _: "every pixel is masked or not finite")
            bad |= ~((rms > 0) & (rms < LARGEST))
        mask = given | bad
        self.refuse(mask.all((1, 2)), Flag.BAD_RMS, lambda _: "the noise map is missing, zero, negative or not finite")
        self.flags |= np.where((bad & ~given).any((1, 2)), int(Flag.PIXELS_REPAIRED), 0)
        return np.where(mask, np.float32(0), image), np.where(mask, np.float32(1), rms), mask

    def _binning(self, image: Array, rms: Array, mask: Array, x: Array, y: Array) -> Array:
        """Choose binnings ``(N,)`` by how large the galaxies are said to be, or look."""
        radius = np.array([np.nan if c.size_pixels is None else c.size_pixels for c in self.cutouts], np.float64)
        unknown = np.flatnonzero(~((radius > 0) & (radius < np.inf)))
        if len(unknown) == len(radius):
            radius = apparent_radius(image, rms, mask, x, y)
        elif len(unknown):
            radius[unknown] = apparent_radius(*(array[unknown] for array in (image, rms, mask, x, y)))
        sides = self.spec.size * np.array(self.spec.binning)
        fits = radius[:, None] <= RADIUS_SHARE * sides
        which = np.where(fits.any(1), fits.argmax(1), len(sides) - 1)
        self.flags |= np.where(radius > CROPPED_SHARE * sides[which], int(Flag.CROPPED), 0)
        return np.array(self.spec.binning)[which]

    def _cut(self, image: Array, rms: Array, mask: Array, x: Array, y: Array, binning: Array) -> tuple[tuple[Array, Array, Array], Array]:
        """Cut frames about (x, y), bin them, and return them with how far their centres are off; what lies outside is masked."""
        n, size = len(image), self.spec.size
        frames = np.zeros((n, size, size), np.float32), np.ones((n, size, size), np.float32), np.ones((n, size, size), bool)
        shift = np.zeros((n, 2))
        for b in np.unique(binning).tolist():
            rows, side = np.flatnonzero(binning == b), size * b
            left, low = (np.floor(p[rows] - (side - 1) / 2 + 0.5).astype(np.int64) for p in (x, y))
            shift[rows] = np.stack([left + (side - 1) / 2 - x[rows], low + (side - 1) / 2 - y[rows]], 1)
            some = (image, rms, mask) if len(rows) == n else (image[rows], rms[rows], mask[rows])
            if image.shape[1:] != (side, side) or left.any() or low.any():
                some = _windows(some, left, low, side)
            # rows whose noise is correlated alike are binned alike
            for members, native in self._by_correlation(rows):
                place = np.searchsorted(rows, members)
                binned = bin_images(some[0][place], b), bin_rms(some[1][place], b, native), bin_mask(some[2][place], b)
                for frame, values in zip(frames, binned, strict=True):
                    frame[members] = values
        frames[0][frames[2]] = 0
        return frames, shift

    def _by_correlation(self, rows: Array) -> list[tuple[Array, Array | None]]:
        """Sort rows by the correlation of their native pixels' noise."""
        found: dict[bytes | None, tuple[list[int], Array | None]] = {}
        for i in rows.tolist():
            native = self.native[i]
            found.setdefault(None if native is None else native.tobytes(), ([], native))[0].append(i)
        return [(np.array(members), native) for members, native in found.values()]

    def _look(self, image: Array, rms: Array, mask: Array) -> None:
        """Refuse frames in which there is nothing to measure, and remark on those that are masked in large part."""
        self.refuse(np.asarray(mask.all((1, 2))), Flag.NO_DATA, lambda _: "no usable pixel near the object")
        highest, lowest = (
            f(image, (1, 2), where=~mask, initial=e) for f, e in ((np.max, -np.float32(np.inf)), (np.min, np.float32(np.inf)))
        )
        self.refuse(np.asarray(highest == lowest), Flag.NO_SIGNAL, lambda i: f"the image is constant (= {lowest[i]:g} per stamp pixel)")
        middle = slice(self.spec.size // 2 - 2, self.spec.size // 2 + 2)
        hidden = np.asarray(mask[:, middle, middle].mean((1, 2)) > 0.5)
        self.refuse(hidden, Flag.CENTRE_MASKED, lambda _: "the pixels at the object's centre are masked")
        self.flags |= np.where(mask.mean((1, 2)) > MASKED_LIMIT, int(Flag.MASKED), 0)

    def _one(self, i: int, image: Array, rms: Array, mask: Array, binning: int, shift: tuple[float, float]) -> FramedImage:
        if i in self.refused:
            return _blank(self.spec, *self.refused[i])
        frame = (image[i][None], rms[i][None], mask[i][None])
        correlation = framed_correlation(self.cutouts[i], binning, self.kept[i] is not None, self.typical, self.known)
        return FramedImage(*frame, binning, shift, int(self.flags[i]), self.cutouts[i].note, correlation)


def framed_correlation(
    cutout: Cutout, binning: int, kept: bool, typical: Array | None, known: dict[tuple[bytes, int], Array]
) -> Array | None:
    """Return the correlation ``(L, L)`` of a framed stamp's noise: as stated, or as it is typically; None where it is unknown.

    `kept` says that the stamp came with its binning: then what it says of its noise is about its own pixels. `known` remembers answers.
    """
    stated = cutout.noise_correlation
    native = typical if stated is None else np.asarray(stated)[0]
    if native is None:
        return None
    steps = 1 if kept and stated is not None else binning
    key = (native.tobytes(), steps)
    if key not in known:
        known[key] = np.asarray(binned_correlation(native, steps)[0])
    return known[key]


def _windows(arrays: tuple[Array, Array, Array], left: Array, low: Array, side: int) -> tuple[Array, Array, Array]:
    """Cut windows of a side from images, noise and masks ``(N, H, W)``, each from its own first pixel on; what lies outside is masked."""
    n, height, width = arrays[0].shape
    out = np.zeros((n, side, side), np.float32), np.ones((n, side, side), np.float32), np.ones((n, side, side), bool)
    for i, (column, row) in enumerate(zip(left.tolist(), low.tolist(), strict=True)):
        rows = slice(max(0, row), max(min(height, row + side), 0))
        columns = slice(max(0, column), max(min(width, column + side), 0))
        if rows.start < rows.stop and columns.start < columns.stop:
            to = (i, slice(rows.start - row, rows.stop - row), slice(columns.start - column, columns.stop - column))
            for values, given in zip(out, arrays, strict=True):
                values[to] = given[i, rows, columns]
    return out


def _blank(spec: StampSpec, flags: int, note: str) -> FramedImage:
    zeros = np.zeros((1, spec.size, spec.size), np.float32)
    return FramedImage(zeros, zeros + 1, zeros.astype(bool), spec.binning[0], (0.0, 0.0), flags, note)
