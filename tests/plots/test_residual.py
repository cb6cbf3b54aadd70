import dataclasses

import numpy as np
import pytest

from astroflow.diagnostics import residuals
from astroflow.plots import plot_residual, save_figure
from astroflow.posteriors.flags import Flag


def panels(fig):
    return [ax for ax in fig.axes if ax.images]


def test_it_shows_data_model_and_residual_on_fixed_scales(galaxies, tmp_path):
    stamps, model = galaxies
    fig = plot_residual(stamps, model, row=2, flags=int(Flag.MASKED), n_parameters=7)
    data, clean, left = panels(fig)
    assert [ax.get_title() for ax in (data, clean, left)] == ["data", "model", "(data - model) / noise"]
    assert data.get_xlabel() == "x offset [arcsec]"
    assert data.get_ylabel() == "y offset [arcsec]"
    chi2 = residuals(stamps, model, n_parameters=7).reduced_chi2[2]
    assert fig.get_suptitle() == f"g2: reduced chi-squared {chi2:.2f}; flags: MASKED"
    image = left.images[0]
    assert (image.norm.vmin, image.norm.vmax) == (-5, 5)
    assert image.origin == "lower"
    assert tuple(image.get_extent()) == pytest.approx((-2.4, 2.4, -2.4, 2.4))
    assert data.images[0].norm.vmax == clean.images[0].norm.vmax
    assert len([ax for ax in fig.axes if ax.get_label() == "<colorbar>"]) == 2
    assert save_figure(fig, tmp_path / "residual.png").stat().st_size > 10_000


def test_masked_pixels_are_transparent_over_a_hatched_ground(galaxies):
    stamps, model = galaxies
    data, clean, left = panels(plot_residual(stamps, model))
    for ax in (data, left):
        np.testing.assert_array_equal(np.ma.getmaskarray(ax.images[0].get_array()), stamps.mask[0, 0])
        assert ax.patch.get_hatch()
    assert not np.ma.getmaskarray(clean.images[0].get_array()).any()


def test_binned_stamps_are_drawn_to_their_true_size(galaxies):
    stamps, model = galaxies
    binned = dataclasses.replace(stamps, binning=np.full(4, 2))
    assert tuple(panels(plot_residual(binned, model))[0].images[0].get_extent()) == pytest.approx((-4.8, 4.8, -4.8, 4.8))


def test_each_band_has_its_line(make_galaxies):
    stamps, model = make_galaxies(bands=2)
    assert [ax.get_title() for ax in panels(plot_residual(stamps, model))[::3]] == ["data, band 0", "data, band 1"]


def test_a_stamp_without_pixels_can_be_drawn(galaxies, tmp_path):
    stamps, model = galaxies
    fig = plot_residual(dataclasses.replace(stamps, mask=np.ones(stamps.shape, bool)), model)
    assert "none (no usable pixel)" in fig.get_suptitle()
    assert save_figure(fig, tmp_path / "empty.png").exists()


def test_a_dollar_sign_in_an_id_begins_no_formula(galaxies, tmp_path):
    stamps, model = galaxies
    named = dataclasses.replace(stamps, ids=["gal$_$1.fits", "b", "c", "d"])
    fig = plot_residual(named, model)
    assert fig.get_suptitle().startswith("gal\\$_\\$1.fits: ")
    assert save_figure(fig, tmp_path / "residual.png").exists()
