import gzip

import numpy as np
import pytest
from astropy.io import fits

from astroflow.catalogs.fits_files import FitsFile
from astroflow.catalogs.fits_images import header_number, header_wcs, pixel_scale_of, read_fits_image, write_fits_image
from astroflow.errors import InputError

IMAGE = np.arange(12 * 9, dtype="f4").reshape(12, 9)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image.fits"


def write(path, *hdus):
    fits.HDUList(list(hdus)).writeto(path, overwrite=True)


def cards(path, **changes):
    """Write IMAGE, then change cards in the bytes, behind astropy's back."""
    hdu = fits.PrimaryHDU(IMAGE)
    hdu.header["BSCALE"], hdu.header["BZERO"] = 1.0, 0.0
    hdu.writeto(path, overwrite=True)
    content = bytearray(path.read_bytes())
    for key, value in {"BSCALE": 1.0, "BZERO": 0.0, **changes}.items():
        place = content.find(f"{key:<8}".encode())
        if place < 0:
            place = content.find(b"END" + b" " * 77)
            content[place + 80 : place + 160] = b"END" + b" " * 77
        content[place : place + 80] = f"{key:<8}= {value!s:>20}".ljust(80).encode()
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8", "u2", "u4"])
def test_every_pixel_type_is_read_exactly_and_in_native_order(path, dtype):
    data = np.arange(100).reshape(10, 10).astype(dtype)
    if dtype == "u2":
        data[0, 0] = 65535
    write(path, fits.PrimaryHDU(data))
    image, header = read_fits_image(path)
    np.testing.assert_array_equal(image, data)
    assert image.dtype == np.float32
    assert image.dtype.isnative
    assert header["NAXIS1"] == 10


def test_labels_above_float_precision_stay_exact(path):
    labels = np.array([[2**24 + 1, 2**31 - 1], [0, -5]], "i4")
    write(path, fits.PrimaryHDU(labels))
    with FitsFile(path) as file:
        np.testing.assert_array_equal(file.image().integers(), labels)
    write(path, fits.PrimaryHDU(np.array([[1.0, np.nan], [3.0, 1e30]], "f4")))
    with FitsFile(path) as file:
        np.testing.assert_array_equal(file.image().integers(), [[1, 0], [3, 0]])


def test_scaled_and_blank_integers(path):
    hdu = fits.PrimaryHDU(np.array([[1, 2], [-99, 4]], "i2"))
    hdu.header["BLANK"] = -99
    write(path, hdu)
    with FitsFile(path) as file:
        np.testing.assert_array_equal(file.image().floats(), [[1, 2], [np.nan, 4]])
        np.testing.assert_array_equal(file.image().integers(), [[1, 2], [0, 4]])
    cards(path, BSCALE=2.0, BZERO=10.0)
    np.testing.assert_array_equal(read_fits_image(path)[0], IMAGE * 2 + 10)


def test_windows_equal_slices(path):
    write(path, fits.PrimaryHDU(IMAGE))
    with FitsFile(path) as file:
        np.testing.assert_array_equal(file.image().floats(slice(2, 7), slice(1, 4)), IMAGE[2:7, 1:4])


def test_a_large_image_is_mapped_not_loaded(path, monkeypatch):
    monkeypatch.setattr("astroflow.catalogs.fits_files.WHOLE_IMAGE_BYTES", 10)
    write(path, fits.PrimaryHDU(IMAGE))
    with FitsFile(path) as file:
        image = file.image()
        assert isinstance(image._raw.base, np.memmap)
        np.testing.assert_array_equal(image.floats(slice(2, 7), slice(1, 4)), IMAGE[2:7, 1:4])


def test_gzip_and_tile_compression(tmp_path):
    write(tmp_path / "a.fits", fits.PrimaryHDU(IMAGE))
    (tmp_path / "a.fits.gz").write_bytes(gzip.compress((tmp_path / "a.fits").read_bytes()))
    np.testing.assert_array_equal(read_fits_image(tmp_path / "a.fits.gz")[0], IMAGE)
    labels = np.arange(6400, dtype="i4").reshape(80, 80)
    write(tmp_path / "c.fits", fits.PrimaryHDU(), fits.CompImageHDU(labels, compression_type="RICE_1"))
    with FitsFile(tmp_path / "c.fits") as file:
        np.testing.assert_array_equal(file.image().integers(slice(3, 5), slice(0, 80)), labels[3:5])


def test_the_only_image_is_found_and_several_have_to_be_chosen(path):
    named = [fits.ImageHDU(IMAGE + k, name=name) for k, name in enumerate(("SCI", "RMS"))]
    write(path, fits.PrimaryHDU(), named[0])
    np.testing.assert_array_equal(read_fits_image(path)[0], IMAGE)
    write(path, fits.PrimaryHDU(), *named)
    with pytest.raises(InputError, match=r"holds 2 images: 1 SCI, 2 RMS. Say which one with `hdu`"):
        read_fits_image(path)
    np.testing.assert_array_equal(read_fits_image(path, "rms")[0], IMAGE + 1)
    np.testing.assert_array_equal(read_fits_image(path, 1)[0], IMAGE)
    with pytest.raises(InputError, match=r"no HDU called 'RNS'; it has 0 PRIMARY, 1 SCI, 2 RMS. Did you mean 'RMS'"):
        read_fits_image(path, "RNS")
    with pytest.raises(InputError, match=r"has no HDU 5; it has 0 PRIMARY"):
        read_fits_image(path, 5)
    with pytest.raises(InputError, match=r"HDU 0 PRIMARY\] holds no image; images are in 1 SCI, 2 RMS"):
        read_fits_image(path, 0)


def test_no_image_at_all(path):
    write(path, fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1])]))
    with pytest.raises(InputError, match="holds no image; it has 0 PRIMARY, 1"):
        read_fits_image(path)


def test_axes_of_length_one_are_dropped_others_are_errors(path):
    write(path, fits.PrimaryHDU(IMAGE[None]))
    assert read_fits_image(path)[0].shape == IMAGE.shape
    write(path, fits.PrimaryHDU(np.zeros((3, 4, 5), "f4")))
    with pytest.raises(InputError, match="has 3 axes, 3 x 4 x 5; expected two axes"):
        read_fits_image(path)
    write(path, fits.PrimaryHDU(np.zeros(5, "f4")))
    with pytest.raises(InputError, match="has 1 axes, 5; expected two axes"):
        read_fits_image(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"<html><body>404</body></html>", "is not FITS: it looks like an HTML page; did the download fail"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "is not FITS: it looks like a PNG picture"),
        (b"PK\x03\x04" + b"\0" * 100, "looks like a zip archive"),
        (gzip.compress(b"not fits"), "is not FITS: it looks like text"),
        (gzip.compress(b"SIMPLE  =" + b" " * 9000)[:-20], "cannot be read as FITS"),
        (b"SIMPLE  =                    T".ljust(80), "cannot be read as FITS|holds no image"),
        (b"SIMPLE  =                    T".ljust(2880), "cannot be read as FITS|holds no image"),
    ],
    # names of their own: gzip writes the time into its files, and processes that share the tests must agree on their names
    ids=["empty", "HTML", "PNG", "zip", "gzip of text", "broken gzip", "card", "header"],
)
def test_what_is_not_fits(path, content, message):
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_fits_image(path)


def test_a_missing_file_an_address_and_a_device(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_fits_image(tmp_path / "absent.fits")
    with pytest.raises(InputError, match="is an address"):
        read_fits_image("http://example.org/image.fits")
    with pytest.raises(InputError, match="a device or pipe"):
        read_fits_image("/dev/zero")


def test_a_truncated_file_says_both_lengths(path):
    write(path, fits.PrimaryHDU(np.zeros((100, 100), "f4")))
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(InputError, match="is truncated: its pixels end at byte 42880, the file at byte 20000"):
        read_fits_image(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"BSCALE": 0.0}, r"has BSCALE = 0.0; expected a finite number other than 0"),
        ({"BSCALE": "'NaN'"}, "has BSCALE = 'NaN'; expected a finite number"),
        ({"BZERO": "1E300"}, "has BZERO = 1e\\+300; expected a finite number"),
        ({"NAXIS1": 200000, "NAXIS2": 200000}, "declares 200000 x 200000 pixels; expected at least 1 and at most"),
        ({"NAXIS1": 20000}, "is truncated"),
        ({"NAXIS1": 0}, "declares 12 x 0 pixels|cannot be read"),
        ({"NAXIS1": -64}, "is damaged at HDU 0: lengths in its header make no sense"),
        ({"BITPIX": 7}, "BITPIX = 7|cannot be read"),
        ({"BITPIX": "'abc'"}, "BITPIX|cannot be read|holds no image"),
    ],
)
def test_headers_that_make_no_sense(path, changes, message):
    cards(path, **changes)
    with pytest.raises(InputError, match=message):
        read_fits_image(path)


def test_values_beyond_float32_become_infinite_quietly(path):
    write(path, fits.PrimaryHDU(np.array([[1e300, 1.0]])))
    np.testing.assert_array_equal(read_fits_image(path)[0], [[np.inf, 1.0]])


def test_a_gzip_bomb_is_refused(path, monkeypatch):
    monkeypatch.setattr("astroflow.catalogs.fits_files.MAX_UNPACKED_BYTES", 3 << 20)
    path.write_bytes(gzip.compress(b"SIMPLE  =" + b"\0" * (8 << 20)))
    with pytest.raises(InputError, match="unpacks to more than 3 MiB; unpack it on disk first"):
        read_fits_image(path)


def test_random_damage_is_an_input_error_or_an_image_never_anything_else(path):
    header = fits.Header(
        {"BLANK": -1, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 1.0, "CRVAL2": 2.0, "CDELT1": 1e-4, "CDELT2": 1e-4}
    )
    write(path, fits.PrimaryHDU(IMAGE.astype("i4"), header), fits.ImageHDU(IMAGE))
    whole = np.frombuffer(path.read_bytes(), "u1")
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        damaged = whole.copy()
        places = rng.integers(0, 1200, 3)
        damaged[places] = rng.integers(0, 256, 3)
        path.write_bytes(damaged[: rng.integers(1, len(whole))].tobytes() if rng.random() < 0.2 else damaged.tobytes())
        try:
            _, found = read_fits_image(path, 0)
            pixel_scale_of(found)
            outcomes.add("read")
        except InputError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_written_images_come_back_with_their_header(path):
    header = fits.Header({"GAIN": 2.5})
    write_fits_image(path, IMAGE, header)
    image, found = read_fits_image(path)
    np.testing.assert_array_equal(image, IMAGE)
    assert header_number(found, "GAIN", "x") == 2.5
    assert [file.name for file in path.parent.iterdir()] == ["image.fits"]


def test_header_numbers_are_numbers():
    header = fits.Header({"GAIN": "high", "MAGZERO": 25.0})
    with pytest.raises(InputError, match="has no keyword 'MAGZER'. Did you mean 'MAGZERO'"):
        header_number(header, "MAGZER", "tile")
    with pytest.raises(InputError, match="has GAIN = 'high'; expected a finite number"):
        header_number(header, "GAIN", "tile")


def test_pixel_scale_from_the_wcs(wcs_of):
    assert pixel_scale_of(wcs_of(50, 40).to_header()) == pytest.approx(0.2, rel=1e-9)
    assert pixel_scale_of(fits.Header()) is None
    skewed = wcs_of(50, 40, angle_degrees=0)
    skewed.wcs.cd = skewed.wcs.cd @ np.diag([1.0, 1.1])
    with pytest.raises(InputError, match='has pixels of 0.2" x 0.22"; only square pixels are supported'):
        pixel_scale_of(skewed.to_header())


@pytest.mark.parametrize("broken", [{"CTYPE1": "RA---XXX"}, {"CRVAL2": "north"}, {"PC1_1": 0.0, "PC1_2": 0.0}, {"CTYPE1": "LINEAR"}])
def test_a_broken_wcs_is_no_wcs(wcs_of, broken):
    header = wcs_of(50, 40).to_header()
    header.update(broken)
    assert header_wcs(header) is None


@pytest.mark.parametrize("rest", [b"x" * 100, b"\0" * 2880, b"x" * 5000])
def test_bytes_after_the_last_hdu_do_no_harm(path, rest):
    write(path, fits.PrimaryHDU(IMAGE))
    path.write_bytes(path.read_bytes() + rest)
    np.testing.assert_array_equal(read_fits_image(path)[0], IMAGE)


def test_pixels_are_not_read_from_a_closed_file(path):
    write(path, fits.PrimaryHDU(IMAGE))
    path.write_bytes(gzip.compress(path.read_bytes()))
    with FitsFile(path) as file:
        image = file.image()
    with pytest.raises(InputError, match="cannot be read: .*the file was closed before its pixels were read"):
        image.floats()


GALACTIC = {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "RADESYS": "ICRS"}


@pytest.mark.parametrize(
    "changes",
    [
        GALACTIC,
        {"CTYPE1": "ELON-TAN", "CTYPE2": "ELAT-TAN"},
        {"RADESYS": "FK4"},
        {"EQUINOX": 1950.0},
        {"RADESYS": "FK5", "EQUINOX": 1975.0},
    ],
)
def test_a_wcs_of_other_coordinates_gives_the_pixel_scale_alone(wcs_of, changes):
    header = wcs_of(50, 40).to_header()
    if "RADESYS" not in changes:
        header.remove("RADESYS", ignore_missing=True)
    header.update(changes)
    assert header_wcs(header) is None
    assert pixel_scale_of(header) == pytest.approx(0.2, rel=1e-9)


@pytest.mark.parametrize(
    "changes", [{}, {"RADESYS": "FK5", "EQUINOX": 2000.0}, {"EQUINOX": 2000.0}, {"RADESYS": "ICRS", "EQUINOX": 1950.0}]
)
def test_a_wcs_of_icrs_or_j2000_is_usable(wcs_of, changes):
    header = wcs_of(50, 40).to_header()
    header.remove("RADESYS", ignore_missing=True)
    header.update(changes)
    assert header_wcs(header) is not None


def test_unsigned_integers_of_64_bits_are_exact(path):
    values = np.array([[2**64 - 1, 2**63], [2**53 + 1, 0]], "u8")
    write(path, fits.PrimaryHDU(values))
    with FitsFile(path) as file:
        assert file.image().integers().tolist() == values.tolist()
        assert not file.image().undefined().any()


def test_pixels_without_a_whole_number_are_told(path):
    write(path, fits.PrimaryHDU(np.array([[1.0, np.nan, np.inf], [3.0, 1e30, 0.0]])))
    with FitsFile(path) as file:
        assert file.image().undefined().tolist() == [[False, True, True], [False, True, False]]
        assert file.image().undefined(slice(0, 1)).tolist() == [[False, True, True]]
    hdu = fits.PrimaryHDU(np.array([[1, 2], [-99, 4]], "i2"))
    hdu.header["BLANK"] = -99
    write(path, hdu)
    with FitsFile(path) as file:
        assert file.image().undefined().tolist() == [[False, False], [True, False]]
    cards(path, BZERO=2.0**63)
    with FitsFile(path) as file:
        assert file.image().undefined().all()
        assert (file.image().integers() == 0).all()
