import dataclasses

import numpy as np
import pytest

from astroflow.diagnostics import LinearGaussianBaseline, log_score_gain
from astroflow.diagnostics.baseline import CLIP
from astroflow.diagnostics.moments import image_features
from astroflow.errors import InputError


@pytest.fixture(scope="module")
def baseline(simulation, simulator):
    return LinearGaussianBaseline.fit(simulation, simulator.parameters)


def predicted(baseline, stamps):
    return baseline.parameters.prior.forward(baseline.mean(stamps))


def test_magnitudes_and_positions_are_recovered(baseline, held_out):
    names = baseline.parameters.names
    difference = predicted(baseline, held_out.stamps) - held_out.theta
    scatter = dict(zip(names, 1.4826 * np.median(np.abs(difference - np.median(difference, 0)), 0), strict=True))
    assert scatter["mag"] < 0.3
    assert abs(np.median(difference[:, names.index("mag")])) < 0.1
    assert scatter["dx_arcsec"] < 0.025
    assert scatter["dy_arcsec"] < 0.025
    assert scatter["e1"] < 0.15
    assert np.corrcoef(np.log(predicted(baseline, held_out.stamps)[:, 1]), np.log(held_out.theta[:, 1]))[0, 1] > 0.8


def test_it_beats_the_prior_by_nats_on_held_out_images(baseline, held_out):
    prior = baseline.parameters.prior.log_prob(held_out.theta.astype(np.float64))
    gain = log_score_gain(baseline.log_prob(held_out.theta, held_out.stamps), prior)
    assert gain.mean > 5
    assert gain.error < 0.5


def test_regression_recovers_a_posterior_that_is_linear_and_gaussian(baseline, simulation, simulator):
    # Parameters made as a linear function of the features, plus noise of known covariance.
    rng = np.random.default_rng(5)
    standard = np.clip((image_features(simulation.stamps) - baseline.centre) / baseline.scale, -CLIP, CLIP)
    noise = np.array([[0.09, 0.05], [0.05, 0.16]])
    u = 0.2 * np.tile(standard[:, :1], (1, 7)) + 0.3 * rng.normal(size=(300, 7))
    u[:, :2] = 0.2 * standard[:, 1:2] + rng.multivariate_normal([0, 0], noise, 300)
    theta = simulator.parameters.prior.forward(u)
    fitted = LinearGaussianBaseline.fit(dataclasses.replace(simulation, theta=theta), simulator.parameters)
    np.testing.assert_allclose(fitted.covariance[:2, :2], noise, atol=4 * 0.16 * np.sqrt(2 / 260))
    error = fitted.mean(simulation.stamps)[:, :2] - 0.2 * standard[:, 1:2]
    assert (error.std(0) < 2 * np.sqrt(np.diag(noise) * 40 / 300)).all()


def test_density_integrates_to_one_in_physical_units(baseline, held_out):
    # Importance sampling with the prior: the mean of q / prior over prior draws is one.
    stamps = held_out.stamps[[int(np.argmin(held_out.snr))]]
    wide = dataclasses.replace(baseline, covariance=0.6 * np.eye(7), weights=0.1 * baseline.weights)
    prior = baseline.parameters.prior
    theta = prior.forward(np.random.default_rng(6).normal(size=(1500, 7)))
    # One stamp serves many rows: score them through the mean of that stamp.
    many = dataclasses.replace(
        stamps, images=np.repeat(stamps.images, 1500, 0), psf=np.repeat(stamps.psf, 1500, 0), rms=np.repeat(stamps.rms, 1500, 0),
        mask=np.repeat(stamps.mask, 1500, 0), gain=np.repeat(stamps.gain, 1500, 0), binning=np.repeat(stamps.binning, 1500, 0),
        band_present=np.repeat(stamps.band_present, 1500, 0), ids=None,
    )  # fmt: skip
    ratio = np.exp(wide.log_prob(theta, many) - prior.log_prob(theta))
    assert ratio.mean() == pytest.approx(1, abs=4 * ratio.std() / np.sqrt(1500))
    assert ratio.std() / np.sqrt(1500) < 0.1


def test_masked_pixels_do_not_change_the_density(baseline, held_out):
    spoilt = dataclasses.replace(held_out.stamps, images=np.where(held_out.stamps.mask, np.float32(1e25), held_out.stamps.images))
    np.testing.assert_array_equal(baseline.log_prob(held_out.theta, spoilt), baseline.log_prob(held_out.theta, held_out.stamps))


def test_broken_stamps_get_finite_densities_and_other_rows_do_not_notice(baseline, held_out):
    images, psf, rms = (np.array(a[:6]) for a in (held_out.stamps.images, held_out.stamps.psf, held_out.stamps.rms))
    images[0], images[1], psf[2], rms[3] = np.nan, 1e30, np.nan, 0.0
    broken = dataclasses.replace(held_out.stamps[:6], images=images, psf=psf, rms=rms)
    density = baseline.log_prob(held_out.theta[:6], broken)
    assert np.isfinite(density).all()
    np.testing.assert_allclose(density[4:], baseline.log_prob(held_out.theta[:6], held_out.stamps[:6])[4:])


def test_too_few_images_are_refused(simulation, simulator):
    few = dataclasses.replace(simulation, theta=simulation.theta[:30], stamps=simulation.stamps[:30], snr=simulation.snr[:30])
    with pytest.raises(InputError, match="fit it on at least"):
        LinearGaussianBaseline.fit(few, simulator.parameters)


def test_parameters_of_other_images_are_refused(baseline, held_out):
    with pytest.raises(InputError, match="`theta` must have shape"):
        baseline.log_prob(held_out.theta[:3], held_out.stamps)
