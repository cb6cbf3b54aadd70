import numpy as np
import pytest

from astroflow.errors import InputError
from astroflow.plots import plot_corner, save_figure
from astroflow.posteriors.flags import Flag


@pytest.fixture(scope="module")
def centre(parameters):
    return parameters.prior.forward(np.full(7, 0.3))


def cloud(centre, width, n=400):
    return centre + width * np.random.default_rng(2).normal(size=(n, 7))


def test_it_shows_labels_prior_truth_identity_and_flags(parameters, centre, tmp_path):
    fig = plot_corner(cloud(centre, 0.02), parameters, truth=centre, identity="COSMOS 17", flags=int(Flag.AT_BOUND | Flag.LOW_SNR))
    axes = np.reshape(fig.axes, (7, 7))
    assert [ax.get_xlabel() for ax in axes[-1]] == list(parameters.labels)
    assert axes[1, 0].get_ylabel() == "$R_e$ [arcsec]"
    assert fig.get_suptitle() == "Posterior of COSMOS 17\nflags: LOW_SNR, AT_BOUND"
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["posterior", "prior", "truth"]
    assert axes[0, 0].get_title().endswith("mag")
    for i in range(7):
        low, high = axes[i, i].get_xlim()
        assert low < centre[i] < high
        assert high - low < 0.3
        assert len(axes[i, i].lines) == 1  # the truth
    assert save_figure(fig, tmp_path / "corner.png").stat().st_size > 10_000


def test_prior_and_posterior_are_on_one_scale(parameters):
    # Draws from the prior itself: the two histograms have the same area and nearly the same height.
    draws = parameters.prior.forward(np.random.default_rng(3).normal(size=(3000, 7)))
    ax = np.reshape(plot_corner(draws, parameters).axes, (7, 7))[3, 3]
    posterior, prior = ax.patches
    values, edges, _ = prior.get_data()
    assert np.sum(values * np.diff(edges)) == pytest.approx(1)
    assert posterior.get_xy()[:, 1].max() == pytest.approx(values.max(), rel=0.15)


@pytest.mark.parametrize("width", [1e-2, 1e-5, 1e-9, 0.0])
@pytest.mark.parametrize("n", [20, 400])
def test_however_narrow_a_posterior_it_can_be_drawn(parameters, centre, width, n, tmp_path, caplog):
    fig = plot_corner(cloud(centre, width, n).astype(np.float32), parameters)
    for ax, value in zip(np.reshape(fig.axes, (7, 7)).diagonal(), centre, strict=True):
        low, high = ax.get_xlim()
        assert low < value < high
    assert save_figure(fig, tmp_path / "narrow.png").exists()
    # a Dask cluster of an earlier test may still complain of a slow machine
    assert not [record for record in caplog.records if not record.name.startswith("distributed")]


def test_one_parameter_without_spread_among_others_can_be_drawn(parameters, centre, tmp_path):
    draws = cloud(centre, 0.02)
    draws[:, 2] = 6.0
    assert save_figure(plot_corner(draws, parameters), tmp_path / "partly.png").exists()


def test_single_parameter_can_be_drawn(parameters):
    from astroflow.sims.parameters import Parameters

    one = Parameters.model_validate({"members": [parameters.members[0]], "prior": {"blocks": [parameters.prior.blocks[0]]}})
    fig = plot_corner(np.random.default_rng(0).normal(22, 0.1, size=(300, 1)), one)
    assert len(fig.axes) == 1
    assert fig.axes[0].get_xlabel() == "magnitude [mag]"


@pytest.mark.parametrize("draws", [np.zeros((5, 7)), np.zeros((50, 6)), np.full((50, 7), np.nan), np.zeros((2, 50, 7))])
def test_unusable_draws_are_refused(parameters, draws):
    with pytest.raises(InputError, match="`draws` must be finite"):
        plot_corner(draws, parameters)


def test_dollar_signs_of_names_units_and_labels_begin_no_formula(parameters, centre, tmp_path):
    members = list(parameters.members)
    members[0] = members[0].model_copy(update={"unit": "$_$", "label": "$\\nothing$"})
    odd = parameters.model_copy(update={"members": tuple(members)})
    fig = plot_corner(cloud(centre, 0.02), odd, identity="gal$_$1.fits")
    assert fig.get_suptitle().startswith("Posterior of gal\\$_\\$1.fits\n")
    assert save_figure(fig, tmp_path / "corner.png").exists()
