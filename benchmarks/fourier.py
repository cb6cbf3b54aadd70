"""The Fourier engine against GalSim: time and error, on the same galaxies in one run.

Single Sersic galaxies and bulge-disc ones on stamps of 64 pixels of 0.2", with n drawn continuously, through sheared Moffat PSFs.
Time is per stamp on the same cores: GalSim with every index prepared anew (what a naive loop pays), GalSim mixing tabulated indices
(what ``engine: galsim`` does), the Fourier engine from parameters and PSF objects to pixels, its compiled part alone, and the bare
inverse FFTs of the size that it needs. Then the error over (n, re), against GalSim with tightened settings, as a picture:
``runs/fourier_error.png``.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from astroflow.networks.loading import import_tensorflow

import_tensorflow()

import galsim  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter  # noqa: E402

from astroflow.plots.style import save_figure  # noqa: E402
from astroflow.randomness import generator  # noqa: E402
from astroflow.sims.bulge_disc import BulgeDiscGalaxy  # noqa: E402
from astroflow.sims.distributions import LogUniform, Normal, Uniform  # noqa: E402
from astroflow.sims.fourier.grid import ModeGrid  # noqa: E402
from astroflow.sims.fourier.psf import band_of_profile  # noqa: E402
from astroflow.sims.galaxies import SersicGalaxy  # noqa: E402
from astroflow.sims.noise import RMSNoise  # noqa: E402
from astroflow.sims.psfs import MoffatPSF  # noqa: E402
from astroflow.sims.simulator import Simulator  # noqa: E402
from astroflow.sims.stamp import StampSpec  # noqa: E402

SCALE, SIZE, ZERO_POINT, SEED = 0.2, 64, 27.0, 5
STAMPS, SLOW, ROUNDS = 512, 12, 7
TIGHT = galsim.GSParams(folding_threshold=1e-3, maxk_threshold=1e-4, kvalue_accuracy=1e-6, maximum_fft_size=16384)


def simulator(galaxy) -> Simulator:
    psf = MoffatPSF(fwhm_arcsec=Normal(mean=0.75, sd=0.1, low=0.55, high=1.0), ellipticity_sigma=0.03)
    stamp = StampSpec(size=SIZE, pixel_scale_arcsec=SCALE, zero_point=ZERO_POINT, psf_size=33)
    return Simulator(galaxy=galaxy, psf=psf, noise=RMSNoise(rms=Uniform(low=0.1, high=0.3)), stamp=stamp)


def seconds(job: Callable[[], object], rounds: int = ROUNDS) -> float:
    durations = []
    for _ in range(rounds):
        begin = time.perf_counter()
        job()
        durations.append(time.perf_counter() - begin)
    return statistics.median(durations)


def speed(name: str, galaxy) -> None:
    """Print times per stamp."""
    model = simulator(galaxy)
    ids = np.arange(STAMPS)
    model.draw_noiseless(ids[:100], SEED)  # fills GalSim's tables
    theta = np.array([model._draw_theta(generator(SEED, "theta", i))[1] for i in ids.tolist()])
    points = [model.psf.draw(generator(SEED, "psf", i), SCALE) for i in ids.tolist()]
    named = [dict(zip(model.parameters.names, row.tolist(), strict=True)) for row in theta]
    ones = np.ones(STAMPS, np.int64)

    def by_galsim(count: int, exact: bool) -> None:
        for values, point in zip(named[:count], points, strict=False):
            point.observed(model.galaxy.profile(values, ZERO_POINT, exact=exact), SCALE, 1, SIZE)

    def by_fourier() -> None:
        model.fourier.draw(theta, points, SCALE * ones, ones, SIZE, 33, ZERO_POINT)

    grid = ModeGrid(SIZE, max(band_of_profile(point.profile, SCALE) for point in points))
    batch = tf.constant(theta[:64])
    psf = tf.ones((64, len(grid.kx), len(grid.ky)), tf.complex64)
    inputs = (batch, psf, tf.fill([64], ZERO_POINT), tf.fill([64], np.float32(SCALE)), tf.zeros((64, 2)))
    compiled = tf.function(lambda *given: model.fourier.images(*given, grid), jit_compile=True)
    modes = tf.complex(tf.random.stateless_normal((64, grid.period, grid.period // 2 + 1), (1, 2)), 0.0)
    transform = tf.function(tf.signal.irfft2d, jit_compile=True)
    by_fourier()
    compiled(*inputs)
    transform(modes)
    begin = time.perf_counter()
    by_galsim(SLOW, exact=True)
    naive = (time.perf_counter() - begin) / SLOW
    rows = {
        "GalSim, every n prepared anew": naive,
        "GalSim, n from its table": seconds(lambda: by_galsim(100, exact=False), 3) / 100,
        "Fourier engine, all of it": seconds(by_fourier) / STAMPS,
        "Fourier engine, compiled part": seconds(lambda: compiled(*inputs).numpy(), 3 * ROUNDS) / 64,
        f"bare inverse FFTs, {grid.period} pixels": seconds(lambda: transform(modes).numpy(), 3 * ROUNDS) / 64,
    }
    print(f"{name}: milliseconds a stamp")
    for what, value in rows.items():
        print(f"  {what:34s} {1e3 * value:8.3f}   {naive / value:7.1f} times as fast as the first")
    fast, bare = list(rows.values())[3:]
    print(f"  the compiled part takes {fast / bare:.1f} times as long as the FFTs")


def accuracy() -> None:
    """Print and draw the error over (n, re)."""
    model = simulator(SersicGalaxy(n=LogUniform(low=0.5, high=6.0)))
    indices, sizes = np.geomspace(0.5, 6.0, 9), np.geomspace(0.15, 2.0, 9)
    rows, truth, points = [], [], []
    for n in indices:
        for re in sizes:
            rng = np.random.default_rng([SEED, len(rows)])
            e, angle = 0.7 * np.sqrt(rng.random()), 2 * np.pi * rng.random()
            rows.append([20.0, re, n, e * np.cos(angle), e * np.sin(angle), *rng.normal(0, 0.1, 2)])
            point = model.psf.draw(rng, SCALE)
            named = dict(zip(model.parameters.names, rows[-1], strict=True))
            galaxy = model.galaxy.profile(named, ZERO_POINT, exact=True).withGSParams(TIGHT)
            truth.append(replace(point).observed(galaxy, SCALE, 1, SIZE).astype(np.float64))
            points.append(point)
    ones = np.ones(len(rows), np.int64)
    found, _ = model.fourier.draw(np.array(rows), points, SCALE * ones, ones, SIZE, 33, ZERO_POINT)
    truth = np.array(truth)
    difference = found - truth
    figures = {
        "largest pixel error / peak": np.abs(difference).max((1, 2)) / truth.max((1, 2)),
        "stamp flux error": np.abs(difference.sum((1, 2))) / truth.sum((1, 2)),
        "norm of the error / norm": np.sqrt((difference**2).sum((1, 2)) / (truth**2).sum((1, 2))),
    }
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for axis, (name, values) in zip(axes, figures.items(), strict=True):
        print(f"{name:28s} largest {values.max():.1e}, median {np.median(values):.1e}")
        mesh = axis.pcolormesh(sizes, indices, np.log10(values.reshape(len(indices), -1)), shading="nearest", vmin=-6, vmax=-3)
        axis.set(xscale="log", yscale="log", xlabel="$R_e$ [arcsec]", ylabel="Sersic $n$", title=name)
        for side, ticks in ((axis.xaxis, (0.15, 0.3, 0.6, 1.2, 2.0)), (axis.yaxis, (0.5, 1.0, 2.0, 4.0, 6.0))):
            side.set_major_locator(FixedLocator(ticks))
            side.set_minor_locator(NullLocator())
            side.set_major_formatter(StrMethodFormatter("{x:g}"))
        figure.colorbar(mesh, ax=axis, label="log10")
    save_figure(figure, Path("runs/fourier_error.png"))
    print("picture: runs/fourier_error.png")


if __name__ == "__main__":
    speed("single Sersic", SersicGalaxy(n=LogUniform(low=0.5, high=6.0)))
    speed("bulge and disc", BulgeDiscGalaxy())
    accuracy()
