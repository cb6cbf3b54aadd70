"""Row flags: what is known to be wrong or unusual about one posterior, as named bits.

Bits and names are frozen: a bit is never reused. ``docs/flags.md`` explains each; a test holds the two together.
"""

__all__ = ["SUSPECT", "UNUSABLE", "Flag", "flag_names", "quality"]

from enum import IntFlag

import numpy as np


class Flag(IntFlag):
    """Bits of the column `flags`. The first block makes a row unusable: its parameters are null."""

    NO_DATA = 1 << 0
    """No usable image: missing, off the tile, or every pixel masked or not finite."""
    BAD_POSITION = 1 << 1
    """RA, Dec or pixel position missing or out of range."""
    NO_SIGNAL = 1 << 2
    """The image is constant or zero."""
    BAD_PSF = 1 << 3
    """The PSF is missing, not finite, has no positive sum or no core."""
    BAD_RMS = 1 << 4
    """The noise map is missing, zero, negative or not finite wherever the image is good."""
    READ_ERROR = 1 << 5
    """The file of this row could not be read."""
    CENTRE_MASKED = 1 << 6
    """The pixels at the object's centre are masked: nothing to measure."""
    CRASHED = 1 << 7
    """Processes died, or met a bug, whenever they worked on this row alone."""

    PSF_NORMALISED = 1 << 8
    """The PSF's sum was not one; it was normalised."""
    PSF_RECENTRED = 1 << 9
    """The PSF was off-centre or even-sided; it was moved to the middle."""
    MASKED = 1 << 10
    """More than a quarter of the stamp is masked or missing."""
    CROPPED = 1 << 11
    """The object is larger than the largest stamp: light is cut off."""
    PIXELS_REPAIRED = 1 << 12
    """Pixels with a bad value or bad noise were masked."""

    OOD_PSF = 1 << 16
    """The PSF is unlike any that the network was trained on."""
    OOD_RMS = 1 << 17
    """The noise level is outside the training range."""
    OOD_IMAGE = 1 << 18
    """The image, as the network sees it, is unlike any that it was trained on."""
    LOW_SNR = 1 << 19
    """Estimated signal-to-noise ratio below 5: the prior speaks louder than the image."""
    AT_BOUND = 1 << 20
    """The posterior leans on a bound of the prior: the bound decides, not the data."""
    OOD_GAIN = 1 << 21
    """The gain, electrons per image unit, is outside the training range."""
    OOD_CORRELATION = 1 << 22
    """The noise is correlated otherwise than in training."""
    INFERENCE_POOR = 1 << 23
    """Certificate: the draws do not represent the posterior that the exact likelihood has."""
    MODEL_POOR = 1 << 24
    """Certificate: the model cannot have made this image, whatever its parameters."""


UNUSABLE = int(
    Flag.NO_DATA | Flag.BAD_POSITION | Flag.NO_SIGNAL | Flag.BAD_PSF | Flag.BAD_RMS | Flag.READ_ERROR | Flag.CENTRE_MASKED | Flag.CRASHED
)
"""Any of these bits: no posterior, parameters are null."""

SUSPECT = int(
    Flag.CROPPED | Flag.OOD_PSF | Flag.OOD_RMS | Flag.OOD_GAIN | Flag.OOD_CORRELATION | Flag.OOD_IMAGE | Flag.LOW_SNR | Flag.AT_BOUND
    | Flag.INFERENCE_POOR | Flag.MODEL_POOR
)  # fmt: skip
"""Any of these bits, and none above: a posterior that may mislead."""


def flag_names(value: int) -> list[str]:
    """Return the names of the bits that are set."""
    return [flag.name or "" for flag in Flag if value & flag]


def quality(flags: np.ndarray) -> np.ndarray:
    """Summarise flags as 0 (good), 1 (suspect: look before use) or 2 (unusable), int8."""
    flags = np.asarray(flags)
    return np.where(flags & UNUSABLE, 2, np.where(flags & SUSPECT, 1, 0)).astype(np.int8)
