"""Derivatives of PSF images, against exact formulas."""

import numpy as np

from astroflow.sims.psf_errors import PSF_ERRORS, psf_errors


def gaussian(stretch=0.0, g1=0.0, g2=0.0, side=25, sigma=2.0):
    """A Gaussian, its lengths multiplied by 1 + stretch, then sheared by an area-preserving shear."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    shear = np.array([[1 + g1, g2], [g2, 1 - g1]]) / np.sqrt(1 - g1**2 - g2**2) * (1 + stretch) * sigma
    back = np.linalg.inv(shear)
    u, v = back[0, 0] * x + back[0, 1] * y, back[1, 0] * x + back[1, 1] * y
    image = np.exp(-0.5 * (u**2 + v**2))
    return image / image.sum()


def test_they_are_the_differences_of_stretched_and_sheared_gaussians():
    found = psf_errors(gaussian(g1=0.05, g2=-0.02)[None, None])
    assert found.shape == (1, 1, len(PSF_ERRORS), 25, 25)
    np.testing.assert_allclose(psf_errors(gaussian())[1:].sum((1, 2)), 0, atol=1e-12)
    step = 1e-4
    for k, name in enumerate(("stretch", "g1", "g2")):
        expected = (gaussian(**{name: step}) - gaussian(**{name: -step})) / (2 * step)
        np.testing.assert_allclose(psf_errors(gaussian())[k], expected, atol=1e-4 * np.abs(expected).max())


def test_a_normalised_image_stays_normalised():
    y, x = np.mgrid[:17, :17] - 8.0
    wings = (1 + (x**2 + y**2) / 4) ** -1.5  # cut by the image
    np.testing.assert_allclose(psf_errors(wings / wings.sum()).sum((1, 2)), 0, atol=1e-12)
