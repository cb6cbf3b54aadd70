"""The `Simulator`: ids and a seed in, galaxies and their stamps out.

For each id: a binning and parameters from the prior, a PSF, the noiseless stamp drawn by GalSim, then noise level, mask and
noise. Every step has a random stream of its own, keyed by (seed, step, id), so a draw depends on the id and the seed alone.

`draw_noiseless` and `observe` are the two halves of `draw`. Training stores the first, which is slow, and redoes the second,
which is fast, each time a galaxy comes by.
"""

__all__ = ["Simulator"]

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from astroflow.errors import ConfigError, InputError, nearest
from astroflow.randomness import generator
from astroflow.sims.correlation import binned_noise, correlated_normals, correlated_snr
from astroflow.sims.galaxies import Galaxy
from astroflow.sims.masks import MaskPopulation
from astroflow.sims.noise import NoiseModel, add_noise
from astroflow.sims.parameters import Parameters
from astroflow.sims.psfs import NumericPopulation, PSFDraw, PSFPopulation, ShearedProfiles
from astroflow.sims.sersics import SersicSum
from astroflow.sims.stamp import StampSpec
from astroflow.types import Array, Noiseless, Simulation, Stamps

if TYPE_CHECKING:
    from astroflow.sims.fourier.engine import FourierEngine

ENGINES = ("galsim", "fourier")
MAX_REDRAWS = 10_000


@dataclass(frozen=True)
class Simulator:
    """Draws `Simulation` objects from ids and a seed.

    Parameters
    ----------
    galaxy, psf, noise : Galaxy, PSFPopulation, NoiseModel
        The parts; astroflow's own or yours.
    stamp : StampSpec
        Size, pixel scale, zero point and binnings of the stamps.
    masks : MaskPopulation
        Missing pixels.
    name : str
        How messages and files call it.
    """

    galaxy: Galaxy
    psf: PSFPopulation
    noise: NoiseModel
    stamp: StampSpec
    masks: MaskPopulation = field(default_factory=MaskPopulation)
    engine: str = "galsim"
    name: str = "simulator"

    def __post_init__(self) -> None:
        _known(self.engine)

    @cached_property
    def parameters(self) -> Parameters:
        """The galaxy's parameters and their prior."""
        return self.galaxy.parameters

    @property
    def noise_correlation(self) -> Array | None:
        """``(L, L)`` correlation of native pixels' noise; None for independent pixels."""
        correlation = getattr(self.noise, "correlation", None)
        return None if correlation is None else np.asarray(correlation.map)

    @cached_property
    def fourier(self) -> "FourierEngine":
        """The Fourier engine of this galaxy.

        Raises
        ------
        ConfigError
            If the galaxy is no sum of Sersic profiles.
        """
        from astroflow.sims.fourier.engine import fourier_engine

        if not isinstance(self.galaxy, SersicSum):
            raise ConfigError(
                f"{self.name}: the Fourier engine draws sums of Sersic profiles (subclasses of astroflow.sims.sersics.SersicSum); "
                f"{type(self.galaxy).__name__} is none. Use engine: galsim"
            )
        return fourier_engine(self.galaxy, self.parameters.names)

    def draw(self, ids: Sequence[int] | Sequence[str] | Array, seed: int) -> Simulation:
        """Draw one observed galaxy per id.

        Parameters
        ----------
        ids : sequence of int or str
            Unique names; each draw depends on its id and the seed alone.
        seed : int
            The run's seed.

        Returns
        -------
        Simulation
            `theta` ``(N, P)``, `stamps`, `snr` ``(N,)``.
        """
        clean = self.draw_noiseless(ids, seed)
        parts = [self.observe(_row(clean, i), generator(seed, "observation", identity)) for i, identity in enumerate(clean.ids.tolist())]
        return Simulation.joined(parts)

    def draw_noiseless(self, ids: Sequence[int] | Sequence[str] | Array, seed: int) -> Noiseless:
        """Draw galaxies and PSFs without noise: the slow half of `draw`."""
        array = np.asarray(ids)
        if array.size == 0:
            raise InputError("`ids` is empty: nothing to draw")
        if array.ndim != 1 or array.dtype.kind not in "iuU":
            raise InputError(f"`ids` must be a one-dimensional sequence of integers or strings; got {array.dtype} {array.shape}")
        n, size, psf_size = len(array), self.stamp.size, self.stamp.psf_size
        theta = np.empty((n, len(self.parameters)), np.float32)
        images = np.empty((n, 1, size, size), np.float32)
        psf = np.empty((n, 1, psf_size, psf_size), np.float32)
        binning = np.empty(n, np.int64)
        scale = self.stamp.pixel_scale_arcsec
        for i, identity in enumerate(array.tolist()):
            binning[i], theta[i] = self._draw_theta(generator(seed, "theta", identity))
        streams = [generator(seed, "psf", identity) for identity in array.tolist()]
        if self.engine == "fourier":
            images[:, 0], psf[:, 0] = self._by_fourier(theta, binning, self._psfs(streams))
        else:
            for i, rng in enumerate(streams):
                point = self.psf.draw(rng, scale)
                named = self._named(theta[i])
                galaxy = self.galaxy.profile(named, self.stamp.zero_point)
                with _affordable(named, scale * float(binning[i])):
                    images[i, 0] = point.observed(galaxy, scale, int(binning[i]), size)
                psf[i, 0] = point.image(scale, int(binning[i]), psf_size)
        return Noiseless(theta=theta, images=images, psf=psf, binning=binning, ids=array)

    def draw_block(self, rng: np.random.Generator, n: int, psfs: Sequence[PSFDraw] = ()) -> Noiseless:
        """Draw `n` noiseless galaxies from one stream, in whole arrays: for training on ever new ones.

        Parameters
        ----------
        rng : numpy.random.Generator
            Unlike in `draw`, a galaxy depends on its place in the block too.
        n : int
            How many.
        psfs : sequence of PSFDraw
            PSFs to pick from, where the population does not draw numbers (`NumericPopulation`).

        Raises
        ------
        ConfigError
            If the engine is not ``"fourier"``: GalSim is too slow to be asked again and again; or `psfs` are needed and there are none.
        """
        if self.engine != "fourier":
            raise ConfigError(
                f"{self.name}: whole blocks of new galaxies need `engine: fourier` in the forward model; it has {self.engine}"
            )
        if not isinstance(self.psf, NumericPopulation) and not psfs:
            raise ConfigError(f"{self.name}: {type(self.psf).__name__} draws no PSFs as numbers; give some of its draws as `psfs`")
        binning = np.asarray(self.stamp.binning)[rng.integers(len(self.stamp.binning), size=n)]
        theta = np.empty((n, len(self.parameters)), np.float32)
        missing = np.arange(n)
        for _ in range(MAX_REDRAWS):
            drawn = self.parameters.prior.forward(rng.normal(size=(len(missing), len(self.parameters)))).astype(np.float32)
            suits = self.stamp.serves(dict(zip(self.parameters.names, drawn.T, strict=True)), binning[missing])
            theta[missing[suits]] = drawn[suits]
            missing = missing[~suits]
            if not len(missing):
                break
        else:
            raise self._unsuited(binning[missing[0]])
        if isinstance(self.psf, NumericPopulation):
            images, psf = self._by_fourier(theta, binning, self.psf.draw_many(rng, n))
        else:
            images, psf = self._by_fourier(theta, binning, [psfs[i] for i in rng.integers(len(psfs), size=n)])
        return Noiseless(theta=theta, images=images[:, None], psf=psf[:, None], binning=binning, ids=np.arange(n))

    def observe(self, clean: Noiseless, rng: np.random.Generator) -> Simulation:
        """Add noise levels, masks and noise to noiseless stamps: the fast half of `draw`, in whole blocks."""
        n, _, height, width = clean.images.shape
        native, sky = self.noise_correlation, None
        scatter, maps = binned_noise(native, clean.binning)
        levels = self.noise.levels(rng, n)
        rms = (levels.rms * scatter[:, None]).astype(np.float32)[..., None, None]
        mask = self.masks.draw(rng, n, height, width)[:, None]
        normals = np.asarray(rng.standard_normal(clean.images.shape, dtype=np.float32))
        signal = np.where(mask, 0, clean.images / rms)
        if native is None:
            snr = np.sqrt(np.sum(signal**2, axis=(1, 2, 3), dtype=np.float64))
        else:
            sky = correlated_normals(rng, native, clean.binning, (height, width))
            snr = correlated_snr(signal, native, clean.binning)
        images = add_noise(clean.images, rms, levels.gain, normals, sky)
        stamps = Stamps(
            images=images, psf=clean.psf, rms=np.broadcast_to(rms, images.shape), mask=mask, gain=levels.gain,
            binning=clean.binning, ids=clean.ids, zero_point=self.stamp.zero_point,
            pixel_scale_arcsec=self.stamp.pixel_scale_arcsec, noise_correlation=maps,
        )  # fmt: skip
        return Simulation(theta=clean.theta, stamps=stamps, snr=snr)

    def render(self, theta: Array, stamps: Stamps, engine: str = "galsim") -> Array:
        """Draw the noiseless stamps of given parameters, through the PSF images of given stamps.

        Parameters
        ----------
        theta : ndarray
            ``(N, P)`` physical parameters.
        stamps : Stamps
            Gives the size, sampling, zero point and PSF of each image; its pixels are not looked at.
        engine : str
            ``"galsim"``: GalSim with the exact profile, the slow reference. ``"fourier"``: the same physics in batches, for galaxies that
            are sums of Sersic profiles.

        Returns
        -------
        ndarray
            ``(N, B, H, W)`` float32, image unit.
        """
        theta = np.atleast_2d(np.asarray(theta))
        if theta.shape != (len(stamps), len(self.parameters)):
            raise InputError(f"`theta` must have shape {(len(stamps), len(self.parameters))}; got {theta.shape}")
        if _known(engine) == "fourier":
            return self.fourier.render(theta, stamps)
        import galsim

        out = np.empty(stamps.shape, np.float32)
        height, width = stamps.shape[2:]
        for i, row in enumerate(theta):
            named = self._named(row)
            galaxy = self.galaxy.profile(named, stamps.zero_point, exact=True)
            step = float(stamps.stamp_scale_arcsec[i])
            for band in range(stamps.shape[1]):
                picture = galsim.Image(stamps.psf[i, band].astype(np.float64))
                point = galsim.InterpolatedImage(picture, scale=step / stamps.psf_oversampling, flux=1.0, gsparams=galaxy.gsparams)
                scene = galsim.Convolve(galaxy, point)
                with _affordable(named, step):
                    out[i, band] = scene.drawImage(nx=width, ny=height, scale=step, method="no_pixel", dtype=np.float32).array
        return out

    def render_binned(self, theta: Array, psf: Sequence[Array], binning: Array) -> Array:
        """Draw noiseless stamps of given parameters as `draw` does: through native PSFs, onto binned pixels.

        Unlike `render`, which only has the PSF at the stamp's sampling, this stays exact where binned pixels undersample the PSF.

        Parameters
        ----------
        theta : ndarray
            ``(N, P)`` physical parameters.
        psf : sequence of ndarray
            N centred PSF images ``(h, w)`` at the native scale, pixel included.
        binning : ndarray
            ``(N,)`` binnings.

        Returns
        -------
        ndarray
            ``(N, 1, size, size)`` float32, image unit.
        """
        size, scale = self.stamp.size, self.stamp.pixel_scale_arcsec
        out = np.empty((len(theta), 1, size, size), np.float32)
        for stamp, row, point, b in zip(out, theta, psf, binning.tolist(), strict=True):
            named = self._named(row)
            galaxy = self.galaxy.profile(named, self.stamp.zero_point, exact=True)
            with _affordable(named, scale * b):
                stamp[0] = PSFDraw(native_image=point).observed(galaxy, scale, b, size)
        return out

    def _psfs(self, streams: Sequence[np.random.Generator]) -> ShearedProfiles | list[PSFDraw]:
        """Draw one PSF from each stream, as numbers where the population knows how."""
        if isinstance(self.psf, NumericPopulation):
            return ShearedProfiles.joined([self.psf.draw_many(rng, 1) for rng in streams])
        return [self.psf.draw(rng, self.stamp.pixel_scale_arcsec) for rng in streams]

    def _by_fourier(self, theta: Array, binning: Array, psfs: ShearedProfiles | list[PSFDraw]) -> tuple[Array, Array]:
        stamp = self.stamp
        return self.fourier.draw(theta, psfs, stamp.pixel_scale_arcsec * binning, binning, stamp.size, stamp.psf_size, stamp.zero_point)

    def _named(self, theta: Array) -> dict[str, float]:
        return dict(zip(self.parameters.names, (float(v) for v in theta), strict=True))

    def _draw_theta(self, rng: np.random.Generator) -> tuple[int, Array]:
        """Draw a binning, then parameters whose size suits it (the prior, cut to the sizes that this binning serves)."""
        binning = self.stamp.draw_binning(rng)
        for _ in range(MAX_REDRAWS):
            theta = self.parameters.prior.forward(rng.normal(size=len(self.parameters))).astype(np.float32)
            if self.stamp.serves(self._named(theta), np.asarray(binning)):
                return binning, theta
        raise self._unsuited(binning)

    def _unsuited(self, binning: int) -> ConfigError:
        return ConfigError(
            f"{self.name}: fewer than one in {MAX_REDRAWS} sizes of the prior suit binning {binning}; "
            f"change `stamp.binning`, `stamp.re_pixels` or the prior of `re_arcsec`"
        )


def _known(engine: str) -> str:
    if engine not in ENGINES:
        raise ConfigError(f"unknown rendering engine {engine!r}; known engines: {', '.join(ENGINES)}.{nearest(engine, ENGINES)}")
    return engine


@contextlib.contextmanager
def _affordable(theta: Mapping[str, float], step: float) -> Iterator[None]:
    """Refuse to draw a galaxy whose Fourier transform would not fit in memory.

    Parameters
    ----------
    theta : mapping of str to float
        The galaxy's parameters, for the message.
    step : float
        Side of the pixels it is drawn on, arcsec.

    Raises
    ------
    ConfigError
        If the transform is larger than the galaxy's `maximum_fft_size`.
    """
    import galsim

    with warnings.catch_warnings():
        # GalSim warns before it allocates anything, then tries whatever the size
        warnings.simplefilter("error", galsim.GalSimFFTSizeWarning)
        try:
            yield
        except galsim.GalSimFFTSizeWarning as warning:
            values = ", ".join(f"{name} {theta[name]:.3g}" for name in ("re_arcsec", "n") if name in theta) or "these parameters"
            raise ConfigError(
                f"drawing a galaxy of {values} on pixels of {step:g} arcsec takes a Fourier transform of {warning.size} x {warning.size}, "
                "more than is allowed (`maximum_fft_size` of its GSParams). Lower the upper bound of the prior of `re_arcsec` or `n`, "
                "raise `galaxy.folding_threshold`, or let `stamp.binning` bin such galaxies"
            ) from None


def _row(clean: Noiseless, i: int) -> Noiseless:
    rows = slice(i, i + 1)
    return Noiseless(**{f.name: getattr(clean, f.name)[rows] for f in fields(clean)})
