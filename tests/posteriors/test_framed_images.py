"""Framing many together is framing each alone; what framing does to one is in `test_framing`."""

import numpy as np
import pytest

from astroflow.posteriors import framed_images as module
from astroflow.posteriors.flags import Flag
from astroflow.posteriors.framed_images import frame_images
from astroflow.sims.stamp import StampSpec
from astroflow.types import Cutout

SPEC = StampSpec(size=32, pixel_scale_arcsec=0.2, zero_point=27.0, psf_size=15, binning=(1, 2, 4), re_pixels=(1.5, 5.0))
SHAPES = [(64, 64), (50, 41), (32, 32), (9, 20), (150, 140)]
TROUBLES = (
    "no image", "no noise map", "all NaN", "no noise", "constant", "all masked", "centre masked", "nowhere", "off centre", "off the image",
    "odd pixels", "no gain",
)  # fmt: skip
KERNEL = np.array([[0.0, 0.2, 0.0], [0.3, 1.0, 0.3], [0.0, 0.2, 0.0]], np.float32)


def some_cutout(rng, number, trouble):
    """A blob with noise, or something that is wrong with one."""
    height, width = SHAPES[rng.integers(len(SHAPES))]
    y, x = np.mgrid[:height, :width]
    light = rng.uniform(1, 50) * np.exp(-((x - width / 2) ** 2 + (y - height / 2) ** 2) / 2 / rng.uniform(1, 12) ** 2)
    image = (light + rng.normal(0, 0.1, light.shape))[None].astype(np.float32)
    rms, mask = rng.uniform(0.05, 0.15, image.shape).astype(np.float32), rng.random(image.shape) < rng.choice([0, 0.05, 0.3])
    given = {
        "image": image,
        "rms": rms,
        "mask": mask if rng.random() < 0.7 else None,
        "gain": 100.0,
        "note": "a remark" if number % 5 == 0 else "",
    }
    given["size_pixels"] = rng.uniform(-1, 30) if rng.random() < 0.4 else None
    given["noise_correlation"] = [None, KERNEL[None], np.ones((1, 1, 1), np.float32)][number % 3]
    middle = (0, slice(height // 2 - 3, height // 2 + 3), slice(width // 2 - 3, width // 2 + 3))
    if trouble == "odd pixels":
        image[0, 3:6, 3:6], rms[0, 1, 2:4] = np.inf, -1
    if trouble == "centre masked":
        given["mask"] = np.zeros(image.shape, bool)
        given["mask"][middle] = True
    given |= {
        "no image": {"image": None},
        "no noise map": {"rms": None},
        "all NaN": {"image": np.full_like(image, np.nan)},
        "no noise": {"rms": np.zeros_like(rms)},
        "constant": {"image": np.full_like(image, 3.0)},
        "all masked": {"mask": np.ones(image.shape, bool)},
        "nowhere": {"x": np.nan, "y": 3.0},
        "off centre": {"x": width / 2 + 0.2, "y": height / 2 - 3.4},
        "off the image": {"x": -30.0, "y": 4.0},
        "no gain": {"gain": 0.0},
    }.get(trouble, {})
    return Cutout(identity=number, psf=None, zero_point=27.0, pixel_scale_arcsec=0.2, **given)


@pytest.mark.parametrize("typical", [None, KERNEL])
def test_company_makes_no_difference(typical, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 20_000)  # so that a shape is worked on in several goes
    rng = np.random.default_rng(6)
    cutouts = [some_cutout(rng, number, TROUBLES[number // 2] if number % 2 and number < 2 * len(TROUBLES) else "") for number in range(90)]
    together = frame_images(cutouts, SPEC, [None] * 90, typical)
    assert {frame.binning for frame in together} == {1, 2, 4}
    raised = np.bitwise_or.reduce([frame.flags for frame in together])
    for flag in ("NO_DATA", "BAD_RMS", "BAD_POSITION", "NO_SIGNAL", "CENTRE_MASKED", "MASKED", "PIXELS_REPAIRED", "CROPPED"):
        assert raised & Flag[flag], flag
    for cutout, frame in zip(cutouts, together, strict=True):
        (alone,) = frame_images([cutout], SPEC, [None], typical)
        for name in ("image", "rms", "mask", "correlation"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(frame, name), strict=True)
        assert (alone.binning, alone.shift, alone.flags, alone.note) == (frame.binning, frame.shift, frame.flags, frame.note)


def test_the_first_thing_that_is_wrong_is_the_answer():
    """An image of NaN without a noise map is no data; one whose position is no number is not asked for its pixels."""
    rng = np.random.default_rng(1)
    image = np.full((1, 40, 40), np.nan, np.float32)
    nothing = {"image": image, "rms": None, "mask": None, "psf": None, "zero_point": 27.0, "pixel_scale_arcsec": 0.2}
    no_data, nowhere = Cutout(identity=0, **nothing), Cutout(identity=1, x=np.inf, y=0.0, **nothing)
    frames = frame_images([no_data, nowhere, some_cutout(rng, 2, "no gain")], SPEC, [None] * 3, None)
    assert [frame.flags for frame in frames] == [Flag.NO_DATA, Flag.BAD_POSITION, Flag.BAD_RMS]
    assert frames[1].note == "the pixel position (inf, 0) is not finite"
