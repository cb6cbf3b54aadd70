"""The Fourier engine against GalSim: time on the same galaxies and cores in one run, and the memory of a million stamps.

Single Sersic galaxies and bulge-disc ones on stamps of 64 pixels of 0.2", with n drawn continuously, through sheared Moffat PSFs.
Time is per stamp: GalSim with every index prepared anew (what a naive loop pays), GalSim mixing tabulated indices (what
``engine: galsim`` does), the Fourier engine from parameters and PSFs to pixels, one compiled lane of it, and the bare inverse FFTs that
hold the same modes. For figures of one core start it with ``taskset -c 0``.
"""

import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from astroflow.networks.loading import import_tensorflow

import_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from astroflow.randomness import generator  # noqa: E402
from astroflow.sims.bulge_disc import BulgeDiscGalaxy  # noqa: E402
from astroflow.sims.distributions import LogUniform, Normal, Uniform  # noqa: E402
from astroflow.sims.fourier.grouping import group_profiles  # noqa: E402
from astroflow.sims.fourier.lanes import BATCH, LANES  # noqa: E402
from astroflow.sims.galaxies import SersicGalaxy  # noqa: E402
from astroflow.sims.noise import RMSNoise  # noqa: E402
from astroflow.sims.psfs import MoffatPSF  # noqa: E402
from astroflow.sims.simulator import Simulator  # noqa: E402
from astroflow.sims.stamp import StampSpec  # noqa: E402

SCALE, SIZE, ZERO_POINT, SEED = 0.2, 64, 27.0, 5
STAMPS, SLOW, ROUNDS = 512, 24, 7
LANE = BATCH // LANES


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
    profiles = model.psf.draw_many(generator(SEED, "psf"), STAMPS)
    points = [profiles.one(i, SCALE) for i in range(STAMPS)]
    named = [dict(zip(model.parameters.names, row.tolist(), strict=True)) for row in theta]
    ones = np.ones(STAMPS, np.int64)

    def by_galsim(count: int, exact: bool) -> None:
        for values, point in zip(named[:count], points, strict=False):
            point.observed(model.galaxy.profile(values, ZERO_POINT, exact=exact), SCALE, 1, SIZE)

    def by_fourier(psfs) -> None:
        model.fourier.draw(theta, psfs, SCALE * ones, ones, SIZE, 33, ZERO_POINT)

    groups = group_profiles(profiles, SCALE * ones, SIZE)
    compiled, bare, folded = [], [], []
    for group in groups:
        grid = group.grid
        rows = np.resize(group.rows, LANE)
        psf = tf.ones((LANE, 1, len(grid.kx), len(grid.ky)))
        inputs = (tf.constant(theta[rows]), psf, tf.fill([LANE], ZERO_POINT), tf.fill([LANE], np.float32(SCALE)), tf.zeros((LANE, 2)))
        draw = tf.function(lambda *given, grid=grid: model.fourier.images(*given, grid), jit_compile=True)
        transform = tf.function(tf.signal.irfft2d, jit_compile=True)
        compiled.append((len(group.rows), functools.partial(draw, *inputs)))
        # the transform that holds every mode, and that of the stamp's period, which is all that folding leaves to do
        for jobs, side in ((bare, 2 * (grid.modes // 2 * 2)), (folded, grid.period)):
            modes = tf.complex(tf.random.stateless_normal((LANE, side, side // 2 + 1), (1, 2)), 0.0)
            jobs.append((len(group.rows), functools.partial(transform, modes)))

    def mean(jobs) -> float:
        times = [seconds(lambda job=job: job().numpy(), 3 * ROUNDS) / LANE for _, job in jobs]
        return float(np.average(times, weights=[count for count, _ in jobs]))

    for psfs in (profiles, points):
        by_fourier(psfs)
    begin = time.perf_counter()
    by_galsim(SLOW, exact=True)
    naive = (time.perf_counter() - begin) / SLOW
    rows = {
        "GalSim, every n prepared anew": naive,
        "GalSim, n from its table": seconds(lambda: by_galsim(100, exact=False), 3) / 100,
        "Fourier engine, PSFs as GalSim objects": seconds(lambda: by_fourier(points)) / STAMPS,
        "Fourier engine, PSFs as numbers": seconds(lambda: by_fourier(profiles)) / STAMPS,
        "one compiled lane, from theta to pixels": mean(compiled),
        "bare inverse FFTs of the modes it holds": mean(bare),
        "bare inverse FFTs of the period alone": mean(folded),
    }
    print(f"{name}: milliseconds a stamp; bands {[group.grid.band for group in groups]} for {[len(group.rows) for group in groups]}")
    for what, value in rows.items():
        print(f"  {what:40s} {1e3 * value:8.3f}   {naive / value:7.1f} times as fast as the first")
    fast, least, less = list(rows.values())[4:]
    print(f"  the compiled lane takes {fast / least:.1f} times as long as the FFTs, {fast / less:.1f} times as long as the smaller ones")


def memory() -> None:
    """Print the memory of this process while a million stamps are drawn."""
    model = simulator(SersicGalaxy(n=LogUniform(low=0.5, high=6.0)))
    block, ones = 4096, np.ones(4096, np.int64)
    rng = generator(SEED, "many")
    for done in range(0, 1_000_000, block):
        theta = model.parameters.prior.forward(rng.normal(size=(block, len(model.parameters))))
        model.fourier.draw(theta, model.psf.draw_many(rng, block), SCALE * ones, ones, SIZE, 33, ZERO_POINT)
        if done // block in (1, 10, 60, 120, 180, 243):
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
            print(f"  {done + block:8d} stamps: {resident:6.0f} MiB resident")


if __name__ == "__main__":
    speed("single Sersic", SersicGalaxy(n=LogUniform(low=0.5, high=6.0)))
    speed("bulge and disc", BulgeDiscGalaxy())
    memory()
