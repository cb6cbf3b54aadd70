from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from astroflow.errors import InputError
from astroflow.posteriors.flags import Flag
from astroflow.types import Stamps

DRAWS = 16


def rows_of(table, rows):
    return [list(row) for row in table[rows]]


@pytest.fixture(scope="module")
def encoded(small_posterior, galaxies):
    return small_posterior.encode(galaxies.stamps)


@pytest.fixture(scope="module")
def draws(small_posterior, encoded):
    return small_posterior.sample(encoded, DRAWS, seed=3)


# -- shapes and bits -------------------------------------------------------------------------------------------------------


def test_axes_are_images_draws_parameters(small_posterior, encoded, draws, galaxies):
    assert draws.shape == (70, DRAWS, 7)
    assert draws.dtype == np.float32
    assert small_posterior.log_prob(draws, encoded).shape == (70, DRAWS)
    assert small_posterior.log_prob(galaxies.theta, encoded).shape == (70,)
    assert np.allclose(small_posterior.log_prob(draws[:, 0], encoded), small_posterior.log_prob(draws, encoded)[:, 0], atol=1e-3)
    assert len(encoded) == 70
    assert small_posterior.parameters.names[:3] == ("mag", "re_arcsec", "n")


@pytest.mark.parametrize("rows", [[0], [69], [4, 3, 5], list(range(69, -1, -1)), [68, 2]], ids=str)
def test_the_same_id_and_seed_give_the_same_bits_in_any_company_and_order(small_posterior, galaxies, draws, encoded, rows):
    stamps = galaxies.stamps[rows]
    again = small_posterior.encode(stamps)
    assert np.array_equal(again.context, encoded.context[rows])
    assert np.array_equal(again.flags, encoded.flags[rows])
    assert np.array_equal(again.snr, encoded.snr[rows])
    assert np.array_equal(small_posterior.sample(stamps, DRAWS, seed=3), draws[rows])
    assert np.array_equal(small_posterior.log_prob(draws[rows], stamps), small_posterior.log_prob(draws, encoded)[rows])
    alone, together = (small_posterior.summarize(s, DRAWS, seed=3) for s in (stamps, galaxies.stamps))
    assert rows_of(alone, slice(None)) == rows_of(together, rows)


def test_cutouts_and_stamps_are_the_same(small_posterior, survey, cutouts):
    one = small_posterior.sample(survey.stamps, DRAWS, seed=3)
    assert np.array_equal(small_posterior.sample(cutouts, DRAWS, seed=3), one)
    assert np.array_equal(small_posterior.sample(cutouts[7:8], DRAWS, seed=3)[0], one[7])
    assert np.array_equal(small_posterior.sample(cutouts[::-1], DRAWS, seed=3)[::-1], one)


def test_seed_and_id_choose_the_draws_and_nothing_else_does(small_posterior, galaxies, draws):
    stamps = galaxies.stamps[:3]
    assert not np.isclose(small_posterior.sample(stamps, DRAWS, seed=4), draws[:3]).all(-1).any()
    renamed = replace(stamps, ids=[7, 8, 9])
    other = small_posterior.sample(renamed, DRAWS, seed=3)
    assert not np.isclose(other, draws[:3]).all(-1).any()
    assert np.array_equal(small_posterior.encode(renamed).context, small_posterior.encode(stamps).context)
    named = small_posterior.sample(replace(stamps, ids=["7", "8", "nine"]), DRAWS, seed=3)
    assert not np.isclose(named, other).all(-1).any(), "the id '7' is not the id 7"


def test_more_draws_begin_with_the_same_draws(small_posterior, galaxies, draws):
    many = small_posterior.sample(galaxies.stamps[:3], 64, seed=3)
    assert many.shape == (3, 64, 7)
    assert np.allclose(many[:, :DRAWS], draws[:3], rtol=1e-5, atol=1e-5)
    assert small_posterior.sample(galaxies.stamps[:3], 1, seed=3).shape == (3, 1, 7)


def test_encoding_once_is_enough(small_posterior, galaxies, encoded, draws):
    assert np.array_equal(small_posterior.sample(galaxies.stamps, DRAWS, seed=3), draws)
    assert np.array_equal(small_posterior.log_prob(draws, galaxies.stamps), small_posterior.log_prob(draws, encoded))


def test_no_cutouts_give_no_rows(small_posterior):
    assert small_posterior.sample([], DRAWS).shape == (0, DRAWS, 7)
    assert len(small_posterior.summarize([], DRAWS)) == 0


# -- density -----------------------------------------------------------------------------------------------------------


def test_draws_lie_inside_the_prior_and_have_a_density(small_posterior, encoded, draws):
    centred = draws.astype(np.float64)
    centred[..., -2:] -= encoded.framed.shift_arcsec[:, None]
    assert small_posterior.parameters.prior.contains(centred).all()
    assert np.isfinite(small_posterior.log_prob(draws, encoded)).all()


def test_density_is_that_of_the_estimators_distribution(small_posterior, encoded, draws):
    distribution = small_posterior.estimator.distribution(encoded.context[:10])
    expected = distribution.log_prob(tf.constant(np.swapaxes(draws[:10], 0, 1))).numpy().T
    assert np.allclose(small_posterior.log_prob(draws, encoded)[:10], expected, atol=5e-3)


def test_density_integrates_to_one(small_posterior, encoded):
    """E[q / prior] under the prior is the integral of q; faint galaxies have posteriors wide enough for that."""
    faint = np.argsort(encoded.snr)[:8]
    prior = small_posterior.parameters.prior
    theta = prior.forward(np.random.default_rng(0).normal(size=(40_000, 7))).astype(np.float32)
    integrals = []
    for row in faint:
        q = small_posterior.estimator.log_prob(theta.reshape(64, 625, 7), np.tile(encoded.context[row], (64, 1))).astype(np.float64)
        integrals.append(np.exp(q - prior.log_prob(theta.astype(np.float64)).reshape(64, 625)).mean())
    assert abs(np.mean(integrals) - 1) < 0.1, integrals


def test_density_of_the_truth_is_far_above_the_priors(small_posterior, galaxies, encoded):
    gain = small_posterior.log_prob(galaxies.theta, encoded) - small_posterior.parameters.prior.log_prob(galaxies.theta.astype(np.float64))
    assert np.isfinite(gain).all()
    assert gain.mean() > 4


@pytest.mark.parametrize(
    ("name", "value"), [("mag", 17.9), ("mag", 23.6), ("re_arcsec", 0.14), ("re_arcsec", -1.0), ("n", 2.6), ("e1", 0.9), ("dx_arcsec", 0.6)]
)
def test_outside_the_prior_there_is_no_density(small_posterior, encoded, draws, name, value):
    theta = draws[:3].copy()
    theta[1, 4, small_posterior.parameters.index(name)] = value
    log_prob = small_posterior.log_prob(theta, encoded[np.arange(3)])
    assert log_prob[1, 4] == -np.inf
    log_prob[1, 4] = 0
    assert np.isfinite(log_prob).all()


def test_not_a_number_has_no_density_either(small_posterior, galaxies, draws):
    theta = draws[:1].copy()
    theta[0, 0] = np.nan
    theta[0, 1, 3] = np.nan
    log_prob = small_posterior.log_prob(theta, galaxies.stamps[:1])
    assert (log_prob[0, :2] == -np.inf).all()
    assert np.isfinite(log_prob[0, 2:]).all()


def test_theta_of_another_shape_is_refused(small_posterior, encoded, draws):
    for theta in (draws[:3], draws[..., :4], draws[0]):
        with pytest.raises(InputError, match=r"`theta` must be \(70, draws, 7\); got"):
            small_posterior.log_prob(theta, encoded)


@pytest.mark.parametrize("n_draws", [0, -3])
def test_at_least_one_draw(small_posterior, encoded, n_draws):
    with pytest.raises(InputError, match="`n_draws` must be at least 1"):
        small_posterior.sample(encoded, n_draws)


# -- what does not matter ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("junk", [np.nan, np.inf, 1e30, -1e4, 0.0])
def test_values_under_the_mask_do_not_matter(small_posterior, galaxies, draws, junk):
    stamps = galaxies.stamps
    assert stamps.mask.any((1, 2, 3)).mean() > 0.5
    spoilt = replace(stamps, images=np.where(stamps.mask, junk, stamps.images), rms=np.where(stamps.mask, junk, stamps.rms))
    again = small_posterior.encode(spoilt)
    assert np.array_equal(again.flags, small_posterior.encode(stamps).flags)
    assert np.array_equal(small_posterior.sample(again, DRAWS, seed=3), draws)


def test_values_under_the_mask_of_binned_cutouts_do_not_matter(small_posterior, cutouts):
    rng = np.random.default_rng(0)
    masked, spoilt = [], []
    for cutout in cutouts:
        mask = rng.random(cutout.image.shape) < 0.02
        mask[:, 44:52, 44:52] = False
        masked.append(replace(cutout, mask=mask))
        spoilt.append(replace(cutout, mask=mask, image=np.where(mask, 1e30, cutout.image), rms=np.where(mask, np.nan, cutout.rms)))
    one = small_posterior.encode(masked)
    assert len(set(one.framed.stamps.binning.tolist())) == 2
    assert np.array_equal(small_posterior.encode(spoilt).context, one.context)


@pytest.mark.parametrize("zero_point", [22.0, 25.94, 31.4])
def test_the_unit_of_the_image_does_not_matter(small_posterior, survey, zero_point):
    stamps = survey.stamps
    factor = np.float32(10 ** (0.4 * (zero_point - stamps.zero_point)))
    other = replace(stamps, images=stamps.images * factor, rms=stamps.rms * factor, gain=stamps.gain / factor, zero_point=zero_point)
    one, two = (small_posterior.encode(s) for s in (stamps, other))
    assert np.array_equal(one.flags, two.flags)
    assert np.allclose(one.snr, two.snr, rtol=1e-3)
    assert np.allclose(small_posterior.sample(one, DRAWS), small_posterior.sample(two, DRAWS), rtol=1e-3, atol=2e-3)


def test_brighter_pixels_are_brighter_galaxies(small_posterior, survey):
    """The same picture with a zero point one magnitude higher is one magnitude fainter, unless the prior objects."""
    mag = small_posterior.parameters.index("mag")
    brighter = replace(survey.stamps, zero_point=survey.stamps.zero_point + 1)
    shift = small_posterior.sample(brighter, 64)[..., mag].mean(1) - small_posterior.sample(survey.stamps, 64)[..., mag].mean(1)
    bright = small_posterior.encode(survey.stamps).snr > 50
    assert bright.sum() > 2
    # a zero point that is ignored errs by 1, one of the wrong sign by 2
    assert np.median(np.abs(shift[bright] - 1)) < 0.5


def test_whole_pixels_of_sky_do_not_matter(small_posterior, cutouts):
    cutout = cutouts[0]
    centre = small_posterior.sample([cutout], DRAWS)
    wide = np.random.default_rng(0).normal(0, float(cutout.rms[0, 0, 0]), (1, 140, 130)).astype(np.float32)
    for left, low in ((0, 0), (7, 30), (34, 44)):
        image = wide.copy()
        image[:, low : low + 96, left : left + 96] = cutout.image
        moved = replace(
            cutout,
            image=image,
            rms=np.full_like(wide, cutout.rms[0, 0, 0]),
            mask=np.zeros(wide.shape, bool),
            x=left + 47.5,
            y=low + 47.5,
            size_pixels=3.0,
        )
        assert np.array_equal(small_posterior.sample([moved], DRAWS), small_posterior.sample([replace(cutout, size_pixels=3.0)], DRAWS))
    assert centre.shape == (1, DRAWS, 7)


def test_offsets_count_from_the_position_that_was_asked_for(small_posterior, cutouts):
    cutout = replace(cutouts[0], size_pixels=2.0)
    here, there = (small_posterior.encode([replace(cutout, x=47.5 + dx, y=47.5 + dy)]) for dx, dy in ((0, 0), (0.3, -0.4)))
    assert np.allclose(there.framed.shift_arcsec, [[-0.06, 0.08]])
    one, other = (small_posterior.sample(e, DRAWS, seed=3) for e in (here, there))
    assert np.array_equal(one[..., :5], other[..., :5])
    assert np.allclose(other[..., 5:] - one[..., 5:], [-0.06, 0.08], atol=1e-6)
    assert np.allclose(small_posterior.log_prob(other, there), small_posterior.log_prob(one, here), atol=1e-2)


# -- rows that cannot be used ------------------------------------------------------------------------------------------


def test_bad_rows_keep_their_place_and_harm_nobody(small_posterior, galaxies, draws):
    stamps = galaxies.stamps[:10]
    images, rms, psf, gain = stamps.images.copy(), stamps.rms.copy(), stamps.psf.copy(), stamps.gain.copy()
    images[0], images[2], images[3] = np.nan, 0.0, 17.25
    rms[4], psf[5], rms[6], gain[7] = -1.0, np.nan, 0.0, np.nan
    spoilt = replace(stamps, images=images, rms=rms, psf=psf, gain=gain)
    encoded = small_posterior.encode(spoilt)
    expected = {0: Flag.NO_DATA, 2: Flag.NO_SIGNAL, 3: Flag.NO_SIGNAL, 4: Flag.BAD_RMS, 5: Flag.BAD_PSF, 6: Flag.BAD_RMS, 7: Flag.BAD_RMS}
    good = [i for i in range(10) if i not in expected]
    for i, flag in expected.items():
        assert encoded.flags[i] & flag, (i, flag.name)
        assert encoded.framed.notes[i]
    assert not encoded.framed.usable[list(expected)].any()
    assert encoded.framed.usable[good].all()
    sampled = small_posterior.sample(encoded, DRAWS, seed=3)
    assert np.isnan(sampled[list(expected)]).all()
    assert np.array_equal(sampled[good], draws[good])
    log_prob = small_posterior.log_prob(draws[:10], encoded)
    assert np.isnan(log_prob[list(expected)]).all()
    assert np.isfinite(log_prob[good]).all()
    table = small_posterior.summarize(spoilt, DRAWS, seed=3)
    assert len(table) == 10
    for i in range(10):
        numbers = [table[i][name] for name in table.colnames if name.startswith(("mag_", "cov_", "snr"))]
        assert np.isnan(numbers).all() == (i in expected)
        assert (table["quality"][i] == 2) == (i in expected)


def test_bad_pixels_are_repaired_and_said_so(small_posterior, galaxies, draws):
    stamps = galaxies.stamps[:2]
    images = stamps.images.copy()
    images[0, 0, 3, 4] = np.nan
    encoded = small_posterior.encode(replace(stamps, images=images, mask=np.zeros(images.shape, bool)))
    assert encoded.flags[0] & Flag.PIXELS_REPAIRED
    assert not encoded.flags[1] & Flag.PIXELS_REPAIRED
    assert np.isfinite(small_posterior.sample(encoded, DRAWS)).all()


def test_what_the_bundle_cannot_take_is_refused(small_posterior, galaxies, cutouts):
    stamps = galaxies.stamps[:2]
    with pytest.raises(InputError, match=r"the stamps: 0.3 arcsec per pixel; this bundle was trained at 0.2"):
        small_posterior.encode(replace(stamps, pixel_scale_arcsec=0.3))
    with pytest.raises(InputError, match=r"cutout 0: 0.25 arcsec per pixel"):
        small_posterior.encode([replace(cutouts[0], pixel_scale_arcsec=0.25)])
    with pytest.raises(InputError, match="takes one band; the stamps have 2"):
        small_posterior.encode(Stamps(images=np.ones((3, 2, 32, 32)), psf=stamps.psf[:1, 0], rms=1, zero_point=27, pixel_scale_arcsec=0.2))
    with pytest.raises(InputError, match=r"has binning 8; this bundle takes \[1, 2\]"):
        small_posterior.encode(replace(stamps, binning=8))


# -- summaries ---------------------------------------------------------------------------------------------------------


def test_a_summary_is_that_of_the_draws(small_posterior, galaxies):
    stamps = galaxies.stamps[:5]
    table = small_posterior.summarize(stamps, 64, seed=3)
    draws = small_posterior.sample(stamps, 64, seed=3).astype(np.float64)
    assert table["id"].tolist() == stamps.ids.tolist()
    assert np.allclose(table["mag_mean"], draws[..., 0].mean(1))
    assert np.allclose(table["n_sd"], draws[..., 2].std(1, ddof=1))
    assert np.allclose(table["e1_q84"], np.quantile(draws[..., 3], 0.84, axis=1))
    assert np.allclose(table["cov_mag_n"][2], np.cov(draws[2].T)[0, 2])
    assert (table["mag_mean"].unit, table["re_arcsec_q50"].unit, table["n_mean"].unit) == ("mag", "arcsec", None)
    assert table["binning"].tolist() == stamps.binning.tolist()
    assert table.meta["bundle"] == small_posterior.digest
    assert set(table["quality"]) <= {0, 1}


def test_estimated_snr_follows_the_true_one(encoded, galaxies):
    assert np.corrcoef(np.log(encoded.snr), np.log(galaxies.snr))[0, 1] > 0.9


def test_faint_rows_are_flagged(small_posterior, galaxies):
    stamps = galaxies.stamps[:8]
    noise = np.random.default_rng(0).normal(size=stamps.images.shape).astype(np.float32) * stamps.rms
    empty = small_posterior.encode(replace(stamps, images=noise))
    assert (empty.flags & Flag.LOW_SNR).astype(bool).mean() > 0.7
    bright = galaxies.snr > 50
    assert not (small_posterior.encode(galaxies.stamps).flags & Flag.LOW_SNR)[bright].any()


def test_a_posterior_that_leans_on_a_bound_is_flagged(small_posterior, encoded):
    draws = np.tile(small_posterior.parameters.prior.forward(np.zeros(7)).astype(np.float32), (70, 32, 1))
    draws[..., 1] = 0.5 * encoded.framed.stamps.binning[:, None]
    middle = small_posterior.summary_columns(encoded, draws)[1]
    assert not (middle & Flag.AT_BOUND).any()
    draws[5, :, 2] = 2.5
    draws[6, :, 5] = 0.5 + encoded.framed.shift_arcsec[6, 0]
    flags = small_posterior.summary_columns(encoded, draws)[1]
    assert np.flatnonzero(flags & Flag.AT_BOUND).tolist() == [5, 6]
