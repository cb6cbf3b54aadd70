from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astroflow.errors import InputError
from astroflow.types import Noiseless, Simulation, Stamps


def make(n=3, bands=1, height=8, width=6, **changes):
    """Valid stamps from plain arrays, with changes."""
    rng = np.random.default_rng(0)
    given = {
        "images": rng.normal(size=(n, bands, height, width)),
        "psf": np.ones((5, 5)),
        "rms": 1.0,
        "zero_point": 25.0,
        "pixel_scale_arcsec": 0.1,
    }
    return Stamps(**(given | changes))


def test_plain_arrays_become_full_arrays_of_one_kind():
    stamps = make(n=3, bands=2, psf=np.ones((2, 5, 5)), gain=2.0, binning=[1, 2, 4])
    assert stamps.shape == (3, 2, 8, 6)
    assert len(stamps) == 3
    for name, shape, dtype in [
        ("images", (3, 2, 8, 6), np.float32),
        ("rms", (3, 2, 8, 6), np.float32),
        ("mask", (3, 2, 8, 6), bool),
        ("psf", (3, 2, 5, 5), np.float32),
        ("gain", (3, 2), np.float32),
        ("band_present", (3, 2), bool),
        ("binning", (3,), np.int64),
        ("ids", (3,), np.int64),
    ]:
        array = getattr(stamps, name)
        assert (array.shape, array.dtype) == (shape, np.dtype(dtype)), name
        assert array.flags.c_contiguous, name
    assert np.array_equal(stamps.stamp_scale_arcsec, [0.1, 0.2, 0.4])
    assert not stamps.mask.any()
    assert stamps.band_present.all()


def test_images_without_band_or_batch_axis_are_one_band():
    image = np.arange(48.0).reshape(8, 6)
    assert np.array_equal(make(images=image).images, image[None, None])
    assert np.array_equal(make(images=np.stack([image, image])).images, np.stack([image, image])[:, None])


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2", "<f8", "u1", np.float16])
def test_arrays_of_any_byte_order_and_number_type_are_read(dtype):
    values = np.arange(48).reshape(8, 6)
    stamps = make(images=values.astype(dtype), psf=np.ones((5, 5), dtype), rms=np.ones((8, 6), dtype))
    assert stamps.images.dtype == np.float32
    assert stamps.images.dtype.isnative
    assert np.array_equal(stamps.images[0, 0], values)


@pytest.mark.parametrize("shape", [(), (3,), (3, 2), (3, 1), (1,), (3, 8, 6), (3, 1, 8, 6), (1, 2, 1, 1), (8, 6), (3, 2, 8, 6)])
def test_rms_broadcasts_from_the_left(shape):
    rms = np.random.default_rng(1).uniform(1, 2, shape).astype(np.float32)
    got = make(n=3, bands=2, rms=rms, psf=np.ones((5, 5))).rms
    if shape == (3, 8, 6):
        expected = np.broadcast_to(rms[:, None], (3, 2, 8, 6))
    elif shape == (8, 6):
        expected = np.broadcast_to(rms, (3, 2, 8, 6))
    else:
        expected = np.broadcast_to(rms.reshape(shape + (1,) * (4 - len(shape))), (3, 2, 8, 6))
    assert np.array_equal(got, expected)


def test_a_square_rms_table_of_one_value_per_object_and_band_is_not_taken_for_a_map():
    rms = np.arange(1.0, 17.0).reshape(4, 4)
    many = make(n=4, bands=4, height=4, width=4, rms=rms)
    assert np.array_equal(many.rms[:, :, 0, 0], rms)
    one = make(images=np.ones((4, 4)), rms=rms)
    assert np.array_equal(one.rms[0, 0], rms)


@pytest.mark.parametrize(
    ("shape", "n", "bands"), [((5, 7), 3, 1), ((3, 5, 7), 3, 1), ((2, 5, 7), 3, 2), ((3, 2, 5, 7), 3, 2), ((1, 2, 5, 7), 3, 2)]
)
def test_one_psf_serves_all_or_each_its_own(shape, n, bands):
    psf = np.random.default_rng(1).uniform(size=shape).astype(np.float32)
    got = make(n=n, bands=bands, psf=psf).psf
    full = psf[:, None] if shape[0] == n and len(shape) == 3 else psf
    assert np.array_equal(got, np.broadcast_to(full, (n, bands, 5, 7)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.ones(5)}, r"`images` must be \(H, W\)"),
        ({"images": np.ones((2, 2))}, "at least 3 x 3 pixels; got 2 x 2"),
        ({"images": [["a", "b"]]}, "`images` must be numbers"),
        ({"images": None}, "`images` is missing"),
        ({"images": np.ones((8, 6), complex)}, "`images` must be numbers"),
        ({"psf": None}, "`psf` is missing"),
        ({"psf": np.ones((4, 1, 5, 5))}, "`psf` has shape"),
        ({"psf": np.ones(5)}, "`psf` must be"),
        ({"psf": np.ones((0, 5))}, "`psf` must be"),
        ({"rms": None}, "`rms` is missing"),
        ({"rms": np.ones(4)}, r"`rms` has shape \(4,\); expected \(3, 1, 8, 6\)"),
        ({"rms": np.ones((1, 1, 1, 1, 1))}, "`rms` has shape"),
        ({"mask": np.full((8, 6), 0.5)}, "`mask` must be true or false"),
        ({"mask": np.full((8, 6), "x")}, "`mask` must be true or false"),
        ({"mask": np.ones((4, 8, 6))}, "`mask` has shape"),
        ({"gain": np.ones(2)}, "`gain` has shape"),
        ({"band_present": 0.5}, "`band_present` must be true or false"),
        ({"binning": 0}, "`binning` must be a whole number of at least 1; got 0"),
        ({"binning": 1.5}, "`binning` must be a whole number"),
        ({"binning": np.nan}, "`binning` must be a whole number"),
        ({"binning": [1, 2]}, "`binning` has shape"),
        ({"zero_point": None}, "`zero_point` must be one finite number; got None"),
        ({"zero_point": np.nan}, "`zero_point` must be one finite number"),
        ({"zero_point": "bright"}, "`zero_point` must be one finite number; got 'bright'"),
        ({"zero_point": [25.0, 26.0]}, "`zero_point` must be one finite number"),
        ({"pixel_scale_arcsec": 0.0}, "`pixel_scale_arcsec` must be positive; got 0.0"),
        ({"pixel_scale_arcsec": -0.1}, "`pixel_scale_arcsec` must be positive"),
        ({"psf_oversampling": 0}, "`psf_oversampling` must be a whole number"),
        ({"psf_oversampling": 1.5}, "`psf_oversampling` must be a whole number"),
        ({"psf_oversampling": None}, "`psf_oversampling` must be a whole number"),
        ({"psf_oversampling": [1, 2]}, "`psf_oversampling` must be one number"),
        ({"noise_correlation": np.ones(3)}, r"`noise_correlation` has shape \(3,\); expected \(L, L\), \(B, L, L\) or \(N, B, L, L\) with odd L"),
        ({"noise_correlation": np.ones((2, 2))}, "with odd L"),
        ({"noise_correlation": np.ones((3, 5))}, "with odd L"),
        ({"noise_correlation": np.ones((2, 3, 3))}, r"has shape \(2, 3, 3\) for 3 objects in 1 bands"),
        ({"noise_correlation": np.ones((4, 1, 3, 3))}, "for 3 objects in 1 bands"),
        ({"noise_correlation": "cosmos"}, "`noise_correlation` must be numbers"),
        ({"noise_correlation": [[0, 0, 0], [np.nan, 1, np.nan], [0, 0, 0]]}, "`noise_correlation` holds values that are not finite"),
        ({"noise_correlation": [[0, 0, 0], [0.5, 2, 0.5], [0, 0, 0]]}, r"must be 1 in its middle \(lag 0\); it is 2"),
        ({"noise_correlation": [[0, 0, 0], [-1.5, 1, -1.5], [0, 0, 0]]}, "must lie between -1 and 1; the largest value is 1.5"),
        ({"noise_correlation": [[0, 0, 0], [0.2, 1, 0.3], [0, 0, 0]]}, "must be the same at opposite lags"),
        ({"ids": [1, 2]}, "one per image: expected 3"),
        ({"ids": [1, 2, 1]}, "these come more than once: 1"),
        ({"ids": ["a", "a", "b"]}, "these come more than once: a"),
        ({"ids": [1.0, 2.0, 3.0]}, "`ids` must be integers or strings"),
        ({"ids": np.array([1, 2, 2**64 - 1], np.uint64)}, "give larger ones as strings"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_line(changes, message):
    with pytest.raises(InputError, match=message):
        make(**changes)


def test_bad_values_in_a_row_are_no_error():
    images = np.ones((3, 8, 6))
    images[0] = np.nan
    images[1, 2, 2] = np.inf
    images[2, 0, 0] = 1e300
    stamps = make(images=images, rms=[0.0, -1.0, np.nan], psf=np.full((5, 5), np.nan))
    assert np.isnan(stamps.images[0]).all()
    assert np.isinf(stamps.images[2, 0, 0, 0])


def test_values_hidden_by_a_masked_array_do_not_come_back():
    image = np.ma.masked_array(np.ones((8, 6)), mask=np.eye(8, 6, dtype=bool))
    assert np.array_equal(np.isnan(make(images=image).images[0, 0]), np.eye(8, 6, dtype=bool))
    integers = np.ma.masked_array(np.ones((8, 6), int), mask=np.eye(8, 6, dtype=bool))
    assert np.array_equal(np.isnan(make(images=integers).images[0, 0]), np.eye(8, 6, dtype=bool))


def test_a_mask_of_numbers_is_true_where_it_is_not_zero():
    segments = np.arange(48).reshape(8, 6) % 3
    assert np.array_equal(make(mask=segments).mask[1, 0], segments != 0)
    assert np.array_equal(make(mask=(segments > 0).astype(float)).mask[2, 0], segments > 0)


@pytest.mark.parametrize(
    "ids",
    [
        ["a", "b", "c"],
        np.array([b"a", b"b", b"c"]),
        np.array(["a", "b", "c"], object),
        np.array([7, 8, 9], ">i4"),
        np.array([7, 8, 9], np.uint64),
    ],
)
def test_ids_of_any_table_are_read(ids):
    got = make(ids=ids).ids
    assert got.tolist() in (["a", "b", "c"], [7, 8, 9])
    assert got.dtype.isnative


def test_zero_stamps_are_stamps():
    assert len(make(n=0)) == 0
    assert make(n=0, ids=[]).ids.dtype == np.int64


@given(st.lists(st.integers(0, 4), unique=True))
def test_selecting_rows_keeps_what_belongs_together(rows):
    stamps = make(n=5, rms=[1, 2, 3, 4, 5], binning=[1, 2, 4, 8, 1], psf=np.arange(125.0).reshape(5, 5, 5), ids=list("abcde"))
    some = stamps[rows]
    assert some.ids.tolist() == ["abcde"[r] for r in rows]
    for name in ("images", "psf", "rms", "binning", "mask", "gain"):
        assert np.array_equal(getattr(some, name), getattr(stamps, name)[rows])
    assert some == stamps[np.array(rows, int)]
    keep = np.isin(np.arange(5), rows)
    assert stamps[keep] == stamps[sorted(rows)]


def test_repeated_rows_are_objects_of_their_own():
    stamps = make(n=3, rms=[1, 2, 3], ids=["a", "b", "c"], noise_correlation=np.array([[1.0]]))
    again = stamps.repeated(np.array([2, 0, 2]))
    assert again.ids.tolist() == [0, 1, 2]
    assert again == replace(
        stamps[[2, 0, 1]], **{name: getattr(stamps, name)[[2, 0, 2]] for name in ("images", "psf", "rms")}, ids=[0, 1, 2]
    )


def test_one_row_is_a_batch_and_a_loop_over_stamps_ends():
    stamps = make(n=3, ids=["a", "b", "c"])
    assert stamps[1] == stamps[1:2]
    assert stamps[-1].ids.tolist() == ["c"]
    assert [one.ids[0] for one in stamps] == ["a", "b", "c"]
    with pytest.raises(IndexError):
        stamps[3]


CORRELATION = np.array([[0.1, 0.2, 0.0], [0.4, 1.0, 0.4], [0.0, 0.2, 0.1]])


def test_one_noise_correlation_serves_every_object_and_band():
    assert make().noise_correlation is None
    for map_ in (CORRELATION, CORRELATION.tolist(), CORRELATION[None], np.broadcast_to(CORRELATION, (3, 2, 3, 3))):
        got = make(n=3, bands=2, noise_correlation=map_).noise_correlation
        assert (got.shape, got.dtype) == ((3, 2, 3, 3), np.float32)
        assert np.array_equal(got, np.broadcast_to(CORRELATION.astype(np.float32), got.shape))
        assert got.flags.c_contiguous
    by_band = np.stack([CORRELATION, CORRELATION.T])
    assert np.array_equal(make(n=3, bands=2, noise_correlation=by_band).noise_correlation[2, 1], CORRELATION.T.astype(np.float32))
    assert make(noise_correlation=[[1.0]]).noise_correlation.shape == (3, 1, 1, 1)
    assert make(n=0, noise_correlation=CORRELATION).noise_correlation.shape == (0, 1, 3, 3)


def test_noise_correlations_belong_to_their_rows():
    share = np.linspace(0, 1, 5)[:, None, None, None]
    maps = share * CORRELATION + (1 - share) * (np.arange(9).reshape(3, 3) == 4)
    stamps = make(n=5, noise_correlation=maps)
    assert np.array_equal(stamps[[3, 1]].noise_correlation, maps[[3, 1]].astype(np.float32))
    assert stamps == make(n=5, noise_correlation=maps)
    assert stamps != make(n=5, noise_correlation=CORRELATION)
    assert stamps != make(n=5)
    assert make(n=5) != stamps
    assert make(n=5)[2].noise_correlation is None


def test_simulations_are_joined_with_their_noise_correlations():
    def simulation(first, correlation):
        stamps = make(n=2, ids=[first, first + 1], noise_correlation=correlation)
        return Simulation(theta=np.zeros((2, 3), np.float32), stamps=stamps, snr=np.ones(2))

    both = Simulation.joined([simulation(0, CORRELATION), simulation(2, CORRELATION.T)])
    expected = np.stack([CORRELATION, CORRELATION, CORRELATION.T, CORRELATION.T])[:, None]
    assert np.array_equal(both.stamps.noise_correlation, expected.astype(np.float32))
    assert Simulation.joined([simulation(0, None), simulation(2, None)]).stamps.noise_correlation is None


def test_stamps_are_equal_when_everything_is():
    stamps = make()
    assert stamps == make()
    assert stamps != make(zero_point=26.0)
    assert stamps != make(rms=2.0)
    assert stamps != "stamps"
    with_nan = make(images=np.full((8, 6), np.nan))
    assert with_nan == replace(with_nan)


def test_stamps_do_not_change_with_the_arrays_that_they_were_made_of():
    arrays = {
        "images": np.ones((3, 1, 8, 6), np.float32),
        "rms": np.ones((3, 1, 8, 6), np.float32),
        "psf": np.ones((3, 1, 5, 5), np.float32),
    }
    arrays |= {"mask": np.ones((3, 1, 8, 6), bool), "gain": np.ones((3, 1), np.float32)}
    stamps = make(**arrays)
    for name, array in arrays.items():
        array[:] = 0
        assert (getattr(stamps, name) == 1).all(), name


def test_noiseless_counts_its_rows():
    zeros = np.zeros((2, 1, 3, 3))
    assert len(Noiseless(theta=np.zeros((2, 3)), images=zeros, psf=zeros, binning=np.ones(2, int), ids=np.arange(2))) == 2


def test_parts_share_pixels_that_cannot_be_written_to_and_lists_copy_them():
    stamps = Stamps(images=np.ones((4, 8, 8)), psf=np.ones((3, 3)), rms=1.0, zero_point=27.0, pixel_scale_arcsec=0.2)
    for rows in (slice(1, 3), 2):
        assert np.shares_memory(stamps[rows].images, stamps.images)
        with pytest.raises(ValueError, match="read-only"):
            stamps[rows].images[0] = np.nan
    for rows in ([1, 2], np.array([False, True, True, False])):
        part = stamps[rows]
        part.images[0] = np.nan
        assert np.isfinite(stamps.images).all()
    stamps.images[3] = 7.0
