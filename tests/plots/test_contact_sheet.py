import numpy as np
import pytest
from matplotlib.colors import to_hex

from astroflow.errors import InputError
from astroflow.plots import plot_contact_sheet, save_figure
from astroflow.plots.pixels import MASK_COLOUR
from astroflow.plots.style import RED


def test_a_hundred_galaxies_fit_on_one_page(make_galaxies, tmp_path):
    stamps, model = make_galaxies(n=100)
    flagged = np.arange(100) == 7
    fig = plot_contact_sheet(stamps, model, [f"galaxy {i}" for i in range(100)], flagged=flagged, title="All of them")
    assert len(fig.axes) == 100
    captions = [ax.get_title(loc="left") for ax in fig.axes]
    assert captions[6:8] == ["galaxy 6", "galaxy 7 *"]
    assert to_hex(fig.axes[7]._left_title.get_color()).upper() == RED
    assert [text.get_text() for text in fig.texts] == ["All of them"]
    corners = np.array([ax.get_position().bounds for ax in fig.axes])
    assert (corners[:, :2] >= 0).all()
    assert ((corners[:, :2] + corners[:, 2:]) <= 1).all()
    assert len(np.unique(corners[:, 0].round(6))) == 5
    assert save_figure(fig, tmp_path / "sheet.png").stat().st_size > 100_000


def test_triplets_hold_data_model_and_residual(galaxies):
    stamps, model = galaxies
    picture = plot_contact_sheet(stamps, model, list("abcd")).axes[0].images[0]
    pixels = np.asarray(picture.get_array())
    assert picture.origin == "lower"
    assert pixels.shape == (24, 3 * 24 + 2 * 1, 4)
    data, clean, left = pixels[:, :24], pixels[:, 25:49], pixels[:, 50:]
    for panel in (data, left):
        assert (np.round(panel[:5, :, :3] * 255) == [int(MASK_COLOUR[i : i + 2], 16) for i in (1, 3, 5)]).all()
    assert clean[12, 12, 0] > clean[0, 0, 0]  # brighter in the middle
    np.testing.assert_allclose(clean[..., 0], clean[..., 1])  # grey
    assert np.abs(left[10:, :, 0] - left[10:, :, 2]).max() > 0.1  # red and blue


def test_galaxies_without_a_model_are_drawn(galaxies, tmp_path):
    stamps, model = galaxies
    model = np.array(model)
    model[1] = np.nan
    assert save_figure(plot_contact_sheet(stamps, model, list("abcd"), columns=2), tmp_path / "sheet.png").exists()


def test_captions_must_match(galaxies):
    with pytest.raises(InputError, match="one per stamp, 4; got 2"):
        plot_contact_sheet(*galaxies, ["a", "b"])


def test_captions_with_dollar_signs_are_drawn(galaxies, tmp_path):
    fig = plot_contact_sheet(*galaxies, ["gal$_$1 $\\chi^2_r$=1.0", "b $\\chi^2_r$=1.0", "c$1", "d"], title="$_$")
    assert fig.axes[1].get_title(loc="left") == "b $\\chi^2_r$=1.0"
    assert save_figure(fig, tmp_path / "sheet.png").exists()
