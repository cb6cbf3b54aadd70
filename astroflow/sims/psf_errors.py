r"""What a slightly wrong PSF adds to the right one: its derivatives under stretch and shear.

Galaxies are linear in their PSF, so a galaxy seen through one of these pictures is the derivative of its stamp. They are taken of the
image itself, pixel included, with Fourier derivatives: with :math:`P_x, P_y` those of the image P,

.. math:: -(2 P + x P_x + y P_y), \quad -(x P_x - y P_y), \quad -(x P_y + y P_x)

for a stretch of all lengths by a factor :math:`1 + w`, and for reduced shears g1 and g2.
"""

__all__ = ["PSF_ERRORS", "psf_errors"]

import numpy as np

from astroflow.types import Array

PSF_ERRORS = ("psf_width", "psf_e1", "psf_e2")
"""Of what the derivatives are: log of the width, g1 and g2."""
MARGIN = 8
"""Pixels of edge values around the image, so that its sides do not meet."""


def psf_errors(images: Array) -> Array:
    """Differentiate PSF images.

    Parameters
    ----------
    images : ndarray
        ``(..., h, w)`` of unit sum, centred.

    Returns
    -------
    ndarray
        ``(..., 3, h, w)`` float64, in the order of `PSF_ERRORS`; each of zero sum, as images are normalised again.
    """
    image = np.asarray(images, np.float64)
    h, w = image.shape[-2:]
    wide = np.fft.fft2(np.pad(image, [(0, 0)] * (image.ndim - 2) + [(MARGIN, MARGIN)] * 2, mode="edge"))
    inner = (..., slice(MARGIN, MARGIN + h), slice(MARGIN, MARGIN + w))
    along_x = np.fft.ifft2(wide * 2j * np.pi * np.fft.fftfreq(wide.shape[-1])).real[inner]
    along_y = np.fft.ifft2(wide * 2j * np.pi * np.fft.fftfreq(wide.shape[-2])[:, None]).real[inner]
    y, x = np.arange(h)[:, None] - (h - 1) / 2, np.arange(w) - (w - 1) / 2
    stretch = -(2 * image + x * along_x + y * along_y)
    pictures = np.stack([stretch, y * along_y - x * along_x, -(x * along_y + y * along_x)], -3)
    return np.asarray(pictures - image[..., None, :, :] * pictures.sum((-2, -1), keepdims=True))
