"""The PSFs of framed objects: tidied, brought to the pixels of their stamps, measured; each distinct image only once."""

__all__ = ["FramedPSFs", "frame_psfs"]

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from astroflow.posteriors.flags import UNUSABLE, Flag
from astroflow.sims.psf_images import MEASURED, boxed, measure_psf, psf_at_stamp_scale, tidy_psf
from astroflow.types import Array, Cutout


class FramedPSFs(NamedTuple):
    """One entry per object."""

    images: Array
    """``(N, 1, size, size)`` float32, as the network takes them; a delta function where there is none."""
    flags: Array
    """``(N,)`` int64."""
    fine: tuple[Array | None, ...]
    """``(h, w)`` as they were given, tidied, with the stamp's pixel in them; None for stamps that came binned."""
    sampling: Array
    """``(N,)`` samples of `fine` per stamp pixel; 0 where there is none."""
    measured: dict[str, Array]
    """``(N,)`` each: `measure_psf` of `images`."""


def frame_psfs(cutouts: Sequence[Cutout], binnings: Sequence[int], kept: Sequence[int | None], size: int) -> FramedPSFs:
    """Tidy, resample and measure PSFs.

    Parameters
    ----------
    cutouts : sequence of Cutout
        Whose PSFs.
    binnings, kept : sequence of int
        Binning of each framed stamp; and the binning that it came with, None where framing has chosen it.
    size : int
        Odd side of the network's PSF images.
    """
    n = len(cutouts)
    delta = np.zeros((1, size, size), np.float32)
    delta[:, size // 2, size // 2] = 1.0
    out = np.repeat(delta[None], n, 0)
    flags, sampling = np.zeros(n, np.int64), np.zeros(n, np.int64)
    fine: list[Array | None] = [None] * n
    measured = {name: np.repeat(values[0], n) for name, values in measure_psf(delta).items()}
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
        # what tidying has measured holds for images that it left as they were
        moments = {name: values[:, 0].copy() for name, values in report.measured.items()}
        other = report.changed if images.shape == distinct.shape and oversampling * binning == 1 else np.ones(len(images), bool)
        for name, values in measure_psf(images[other, 0]).items():
            moments[name][other] = values
        place = np.repeat(np.arange(len(images)), [len(rows) for rows in members.values()])
        rows = np.array([row for some in members.values() for row in some])
        out[rows] = images[place]
        flags[rows] |= raised.astype(np.int64)[place]
        for name in MEASURED:
            measured[name][rows] = moments[name][place]
        if native:
            sampling[rows] = oversampling * binning
            for row, k in zip(rows.tolist(), place.tolist(), strict=True):
                fine[row] = wide[k]
    return FramedPSFs(out, flags, tuple(fine), sampling, measured)
