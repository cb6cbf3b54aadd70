import numpy as np
import pytest

from astroflow.catalogs.sky import SkyFrame, position_angle, sky_ellipticity, sky_position


def frame_of(wcs, n=1):
    return SkyFrame.of(wcs, np.full(n, 24.5), np.full(n, 19.5), 0.2)


@pytest.mark.parametrize(
    ("angle", "flipped", "e1", "e2", "pa"),
    [
        # North up, east left: along y is north, along x is east.
        (0.0, False, -0.3, 0.0, 0.0),
        (0.0, False, 0.3, 0.0, 90.0),
        # Along the diagonal towards +x, +y: north-west.
        (0.0, False, 0.0, 0.3, 135.0),
        # East right: the diagonal is north-east.
        (0.0, True, 0.0, 0.3, 45.0),
        (0.0, True, -0.3, 0.0, 0.0),
    ],
)
def test_position_angles_of_upright_images(wcs_of, angle, flipped, e1, e2, pa):
    a, b = sky_ellipticity(frame_of(wcs_of(50, 40, angle, flipped)), np.array([e1]), np.array([e2]))
    assert np.hypot(a, b) == pytest.approx(0.3, rel=1e-6)
    assert (position_angle(a, b) - pa + 90) % 180 - 90 == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose([a[0], b[0]], 0.3 * np.array([np.cos(2 * np.deg2rad(pa)), np.sin(2 * np.deg2rad(pa))]), atol=1e-6)


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("turn", [0.0, 20.0, 75.0, 160.0, -110.0])
def test_the_major_axis_points_where_the_sky_says(wcs_of, turn, flipped):
    """Walk along the major axis in the image and compare with the bearing between the two points on the sky."""
    wcs = wcs_of(50, 40, turn, flipped)
    theta = np.deg2rad(33.0)
    ra, dec = wcs.all_pix2world(24.5 + np.array([-1, 1]) * np.cos(theta), 19.5 + np.array([-1, 1]) * np.sin(theta), 0)
    bearing = np.rad2deg(np.arctan2((ra[1] - ra[0]) * np.cos(np.deg2rad(dec.mean())), dec[1] - dec[0])) % 180
    e = 0.4 * np.exp(2j * theta)
    pa = position_angle(*sky_ellipticity(frame_of(wcs), np.array([e.real]), np.array([e.imag])))
    assert pa[0] == pytest.approx(bearing, abs=0.01)


@pytest.mark.parametrize("dec", [2.0, -70.0, 89.9])
def test_positions_follow_the_wcs(wcs_of, dec):
    wcs = wcs_of(50, 40, 35.0, dec=dec, ra=359.9999)
    frame = frame_of(wcs, 3)
    dx, dy = np.array([0.0, 1.3, -2.0]), np.array([0.0, 0.4, 1.7])
    ra, found = sky_position(frame, dx, dy)
    expected = wcs.all_pix2world(24.5 + dx / 0.2, 19.5 + dy / 0.2, 0)
    np.testing.assert_allclose(found, expected[1], atol=1e-9)
    np.testing.assert_allclose((ra - expected[0] + 180) % 360 - 180, 0, atol=1e-9 / np.cos(np.deg2rad(dec)))


def test_draws_have_an_axis_more(wcs_of):
    frame = frame_of(wcs_of(50, 40), 4)
    rng = np.random.default_rng(0)
    e1, e2 = rng.uniform(-0.5, 0.5, (2, 4, 7))
    a, b = sky_ellipticity(frame, e1, e2)
    assert a.shape == (4, 7)
    np.testing.assert_allclose(np.hypot(a, b), np.hypot(e1, e2), rtol=1e-6)
    alone = sky_ellipticity(frame, e1[:, 3], e2[:, 3])
    np.testing.assert_allclose(a[:, 3], alone[0])
    ra, _ = sky_position(frame, e1, e2)
    assert ra.shape == (4, 7)


def test_a_sheared_wcs_shears_the_ellipse():
    """A round image under a sky that is stretched east-west is an east-west ellipse."""
    frame = SkyFrame(*np.zeros((4, 1)), np.array([[[2.0, 0.0], [0.0, 1.0]]]), 1.0)
    e1, e2 = sky_ellipticity(frame, np.zeros(1), np.zeros(1))
    assert e1[0] == pytest.approx(-1 / 3)
    assert e2[0] == 0
    assert position_angle(e1, e2)[0] == 90


def test_an_unknown_frame_gives_nothing_and_is_filled_in_part(wcs_of):
    frame = SkyFrame.unknown(3, 0.2)
    assert len(frame) == 3
    frame.put([1], frame_of(wcs_of(50, 40)))
    ra, dec = sky_position(frame, np.zeros(3), np.zeros(3))
    assert np.isnan(ra).tolist() == np.isnan(dec).tolist() == [True, False, True]


def test_the_order_of_the_axes_in_the_header_does_not_matter(wcs_of):
    wcs, swapped = wcs_of(50, 40), wcs_of(50, 40)
    swapped.wcs.ctype, swapped.wcs.crval, swapped.wcs.cd = ["DEC--TAN", "RA---TAN"], wcs.wcs.crval[::-1], wcs.wcs.cd[::-1]
    expected, found = frame_of(wcs), frame_of(swapped)
    for name in ("ra", "dec", "x", "y", "jacobian"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-9)


def test_a_frame_needs_right_ascension_and_declination(wcs_of):
    wcs = wcs_of(50, 40)
    wcs.wcs.ctype = ["GLON-TAN", "GLAT-TAN"]
    with pytest.raises(ValueError, match="ra, dec"):
        frame_of(wcs)
