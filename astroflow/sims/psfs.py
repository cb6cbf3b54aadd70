"""PSF populations: what point-spread function each simulated object is seen through.

`MoffatPSF` and `KolmogorovPSF` are GalSim profiles of random FWHM and ellipticity; `ImagePSF` picks one of the images of
a FITS file and perturbs it. Each draws one `PSFDraw` per object, which can be convolved with a galaxy and written as an image.
Your own population is any class with `draw`, see ``docs/extending.md``.
"""

__all__ = ["ImagePSF", "KolmogorovPSF", "MoffatPSF", "NumericPopulation", "PSFDraw", "PSFPopulation", "ShearedProfiles"]

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
import pydantic

from astroflow.config import Recipe, RecipePath
from astroflow.errors import ConfigError
from astroflow.sims.distributions import Normal, PositiveScalar, Scalar, quantile
from astroflow.sims.psf_images import boxed, psf_at_stamp_scale, tidy_psf

if TYPE_CHECKING:
    import galsim

MAX_PSF_ELLIPTICITY = 0.3
GALSIM_LEAST_BETA = 1.1
"""An untruncated Moffat profile of a smaller beta has hardly any of its flux near its core, and GalSim does not draw it."""


@dataclass(frozen=True, kw_only=True)
class PSFDraw:
    """One object's PSF: a GalSim profile without the pixel, or a native-scale image that includes it (odd sides, centred)."""

    profile: Any = None
    native_image: np.ndarray | None = None

    def __post_init__(self) -> None:
        if (self.profile is None) == (self.native_image is None):
            raise ConfigError("a PSFDraw holds either a GalSim `profile` or a `native_image`")

    def observed(self, galaxy: "galsim.GSObject", scale: float, binning: int, size: int) -> np.ndarray:
        """Draw a galaxy through this PSF onto ``size x size`` pixels of ``scale * binning`` arcsec."""
        import galsim

        step = scale * binning
        if self.native_image is None:
            scene = galsim.Convolve(galaxy, self.profile.withGSParams(galaxy.gsparams))
            return np.asarray(scene.drawImage(nx=size, ny=size, scale=step, dtype=np.float32).array)
        # Summing b x b pixels is a comb of b native pixels: fold it into the PSF and sample without a further pixel.
        picture = galsim.Image(np.ascontiguousarray(self.boxed(binning), np.float64))
        psf = galsim.InterpolatedImage(picture, scale=scale, flux=1.0, gsparams=galaxy.gsparams)
        scene = galsim.Convolve(galaxy, psf)
        return np.asarray(scene.drawImage(nx=size, ny=size, scale=step, dtype=np.float32, method="no_pixel").array)

    def boxed(self, binning: int) -> np.ndarray:
        """Return the native image with the binned pixel in it, still at the native sampling."""
        if self.native_image is None:
            raise ConfigError("this PSF is a profile: it has no native image")
        return np.asarray(boxed(self.native_image[None], binning)[0])

    def image(self, scale: float, binning: int, size: int) -> np.ndarray:
        """Return the PSF with its pixel at the stamp's sampling, ``(size, size)``, unit sum."""
        if self.native_image is None:
            step = scale * binning
            drawn = self.profile.drawImage(nx=size, ny=size, scale=step, dtype=np.float64).array
            return np.asarray(drawn / drawn.sum(), np.float32)
        return np.asarray(psf_at_stamp_scale(self.native_image[None, None], oversampling=1, binning=binning, size=size)[0, 0])


class PSFPopulation(Protocol):
    """What a PSF population owes."""

    def draw(self, rng: np.random.Generator, scale: float) -> PSFDraw:
        """Draw one PSF. `scale` is the native pixel scale in arcsec."""


@runtime_checkable
class NumericPopulation(Protocol):
    """What a population may offer besides: whole blocks of PSFs as numbers, which the Fourier engine draws fastest."""

    def draw_many(self, rng: np.random.Generator, n: int) -> "ShearedProfiles":
        """Draw `n` PSFs; the first of them is what `draw` would give."""


@dataclass(frozen=True, kw_only=True)
class ShearedProfiles:
    """Many PSFs of one family as numbers: sheared Moffat or Kolmogorov profiles, centred, without the pixel.

    `fwhm_arcsec`, `beta` (unused by Kolmogorov's), `g1` and `g2` are ``(N,)``; the FWHM is that before the shear. With an `image_size`
    they stand for their images of so many native pixels a side.
    """

    kind: Literal["moffat", "kolmogorov"]
    fwhm_arcsec: np.ndarray
    beta: np.ndarray
    g1: np.ndarray
    g2: np.ndarray
    image_size: int | None = None

    def __len__(self) -> int:
        return len(self.fwhm_arcsec)

    def one(self, i: int, scale: float) -> PSFDraw:
        """Return the i-th PSF as GalSim makes it, for native pixels of `scale` arcsec."""
        import galsim

        fwhm, beta, g1, g2 = (float(values[i]) for values in (self.fwhm_arcsec, self.beta, self.g1, self.g2))
        profile = galsim.Moffat(beta=beta, fwhm=fwhm) if self.kind == "moffat" else galsim.Kolmogorov(fwhm=fwhm)
        drawn = PSFDraw(profile=profile.shear(g1=g1, g2=g2))
        return drawn if self.image_size is None else PSFDraw(native_image=drawn.image(scale, 1, self.image_size))

    @classmethod
    def joined(cls, parts: Sequence["ShearedProfiles"]) -> "ShearedProfiles":
        """Put PSFs of one kind one after the other."""
        values = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("fwhm_arcsec", "beta", "g1", "g2")}
        return cls(kind=parts[0].kind, image_size=parts[0].image_size, **values)


def _shears(rng: np.random.Generator, sigma: float, n: int) -> np.ndarray:
    """Draw ``(n, 2)`` shears of at most `MAX_PSF_ELLIPTICITY`."""
    g = sigma * rng.normal(size=(n, 2))
    modulus = np.hypot(g[:, 0], g[:, 1])[:, None]
    return np.asarray(g * np.minimum(1.0, MAX_PSF_ELLIPTICITY / np.maximum(modulus, 1e-12)))


class _ProfilePSF(Recipe):
    kind: Literal["moffat", "kolmogorov"]
    fwhm_arcsec: PositiveScalar
    """Full width at half maximum without the pixel, arcsec."""
    ellipticity_sigma: Annotated[float, pydantic.Field(ge=0, lt=0.2)] = 0.02
    """Spread of each component of the PSF's ellipticity (reduced-shear type)."""
    image_size: Annotated[int, pydantic.Field(ge=5, le=129)] | None = None
    """Side, in native pixels, of the image through which galaxies are seen, odd. Null: through the endless profile, whose wings beyond the
    image that an observer has no likelihood can follow."""

    @pydantic.field_validator("image_size")
    @classmethod
    def _odd(cls, side: int | None) -> int | None:
        if side is not None and side % 2 == 0:
            raise ValueError(f"must be odd, so that the PSF has a middle pixel; got {side}")
        return side

    def draw_many(self, rng: np.random.Generator, n: int) -> ShearedProfiles:
        """Draw `n` PSFs as numbers, without a GalSim object for each."""
        fwhm = quantile(self.fwhm_arcsec, rng, n)
        beta = self._slopes(rng, n)
        g = _shears(rng, self.ellipticity_sigma, n)
        return ShearedProfiles(kind=self.kind, fwhm_arcsec=fwhm, beta=beta, g1=g[:, 0], g2=g[:, 1], image_size=self.image_size)

    def draw(self, rng: np.random.Generator, scale: float) -> PSFDraw:
        return self.draw_many(rng, 1).one(0, scale)

    def _slopes(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return np.zeros(n)


class MoffatPSF(_ProfilePSF):
    """A Moffat profile, the usual description of a ground-based PSF.

    References
    ----------
    Moffat 1969; Trujillo et al. 2001, https://doi.org/10.1046/j.1365-8711.2001.04937.x
    """

    kind: Literal["moffat"] = "moffat"
    beta: Scalar = Normal(mean=3.0, sd=0.4, low=2.2, high=4.5)
    """Slope of the wings, above 1.1."""

    @pydantic.field_validator("beta")
    @classmethod
    def _inside_galsim(cls, beta: Scalar) -> Scalar:
        if beta.low <= GALSIM_LEAST_BETA:
            raise ValueError(f"every value must be above {GALSIM_LEAST_BETA}, as GalSim's Moffat asks; the smallest is {beta.low:g}")
        return beta

    def _slopes(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return quantile(self.beta, rng, n)


class KolmogorovPSF(_ProfilePSF):
    """Long-exposure atmospheric turbulence (GalSim's Kolmogorov)."""

    kind: Literal["kolmogorov"] = "kolmogorov"


class ImagePSF(Recipe):
    """PSF images from the image HDUs of a FITS file (native scale, pixel included), one picked at random per object."""

    kind: Literal["images"] = "images"
    path: RecipePath
    """FITS file with one PSF per image HDU, or cubes of them; relative paths are looked for beside the recipe first."""
    sha256: Annotated[str, pydantic.Field(pattern="^([0-9a-f]{64})?$")] = ""
    """Digest that the images in the file must have; empty for any. Runs fill it in where they store the recipe."""
    fwhm_scatter: Annotated[float, pydantic.Field(ge=0, lt=0.3)] = 0.02
    """Relative scatter of an extra dilation, so that PSFs between the images are covered."""
    ellipticity_sigma: Annotated[float, pydantic.Field(ge=0, lt=0.2)] = 0.01
    """Spread of each component of an extra shear."""

    @cached_property
    def images(self) -> tuple[np.ndarray, ...]:
        """Tidied PSF images.

        Raises
        ------
        ConfigError
            If the file cannot be read or an image in it is unusable.
        """
        planes = self._read()
        reports = [tidy_psf(plane[None, None]) for plane in planes]
        if not planes or any(report.bad.any() for report in reports):
            raise ConfigError(f"{self.path} should hold PSF images with a positive sum and a core; found {len(planes)} images")
        self._check(planes)
        return tuple(report.images[0, 0] for report in reports)

    def pinned(self) -> "ImagePSF":
        """Return the same population with the digest of its images, so that no other file is taken for this one.

        Raises
        ------
        ConfigError
            If the file cannot be read, or its images have another digest than the recipe says.
        """
        return self.model_copy(update={"sha256": self._check(self._read())})

    def _read(self) -> list[np.ndarray]:
        from astropy.io import fits

        path = Path(self.path)
        try:
            with fits.open(path, memmap=False) as hdus:
                arrays = [np.asarray(h.data, np.float64) for h in hdus if h.is_image and h.data is not None and h.data.ndim >= 2]
        except (OSError, TypeError, ValueError, KeyError) as error:
            raise ConfigError(f"cannot read PSF images from {path}: {error}") from error
        return [plane for array in arrays for plane in array.reshape(-1, *array.shape[-2:])]

    def _check(self, planes: Sequence[np.ndarray]) -> str:
        """Return the digest of images; refuse them if the recipe says another."""
        # of the images as they are stored: tidied ones may differ in their last bits from machine to machine
        digest = hashlib.sha256()
        for plane in planes:
            digest.update(f"{plane.shape}".encode() + np.ascontiguousarray(plane, "<f8").tobytes())
        found = digest.hexdigest()
        if self.sha256 not in ("", found):
            raise ConfigError(
                f"the PSF images in {self.path} have sha256 {found[:12]}..., but the recipe says {self.sha256[:12]}...: they are others. "
                "Put the right file there, or begin a new run without `sha256`"
            )
        return found

    def draw(self, rng: np.random.Generator, scale: float) -> PSFDraw:
        import galsim

        image = self.images[int(rng.integers(len(self.images)))]
        g1, g2 = _shears(rng, self.ellipticity_sigma, 1)[0].tolist()
        stretch = float(np.exp(self.fwhm_scatter * rng.normal()))
        psf = galsim.InterpolatedImage(galsim.Image(image.astype(np.float64)), scale=scale, flux=1.0)
        drawn = psf.dilate(stretch).shear(g1=g1, g2=g2).drawImage(nx=image.shape[1], ny=image.shape[0], scale=scale, method="no_pixel")
        array = drawn.array.astype(np.float32)
        return PSFDraw(native_image=np.asarray(array / array.sum()))
