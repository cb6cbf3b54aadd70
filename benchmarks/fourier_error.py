"""The error of the Fourier engine against GalSim with tightened settings, over the widest recipe and every type of PSF.

Stamps of 64 pixels of 0.2", single Sersic galaxies (n 0.5 to 6, effective radius 0.15 to 2", |e| < 0.7) and bulge-disc ones; behind
undersampled PSFs pixels of 0.1" and galaxies as large in pixels. For each type of PSF it prints the largest pixel error over the
peak, the error of the stamp's flux, and the norm of the error over that of the stamp, whether each is within its limit, and which galaxy
has the largest norm; for single Sersic galaxies through Moffat PSFs it draws them over (n, re): ``runs/fourier_error.png``. ``--draws``
is per galaxy for Moffat PSFs, ``--others`` for each other type. GalSim takes a fraction of a second for each.

GalSim integrates a table of the profile's transform for every Sersic index, and for one of 2,000 indices an integral fails: at
n = 2.423624897555527 and ``kvalue_accuracy`` 1e-6 its transform is off by 7e-3 at one wavenumber (k re = 0.106), and right with
others. So where the error is large GalSim draws again with other settings; where it contradicts itself by more than the error that
remains, the second drawing is the truth, and a line says so.
"""

import argparse
import functools
from pathlib import Path

from astroflow.networks.loading import import_tensorflow

import_tensorflow()

import galsim  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter  # noqa: E402

from astroflow.plots.style import save_figure  # noqa: E402
from astroflow.sims.bulge_disc import BulgeDiscGalaxy  # noqa: E402
from astroflow.sims.distributions import LogUniform, Uniform  # noqa: E402
from astroflow.sims.galaxies import SersicGalaxy  # noqa: E402
from astroflow.sims.noise import RMSNoise  # noqa: E402
from astroflow.sims.priors import DiscBlock  # noqa: E402
from astroflow.sims.psfs import MoffatPSF, PSFDraw, ShearedProfiles  # noqa: E402
from astroflow.sims.simulator import Simulator  # noqa: E402
from astroflow.sims.stamp import StampSpec  # noqa: E402

SIZE, ZERO_POINT, SEED, BLOCK = 64, 27.0, 5, 100
TIGHT = galsim.GSParams(folding_threshold=1e-3, maxk_threshold=1e-4, kvalue_accuracy=1e-6, maximum_fft_size=16384)
OTHERWISE = galsim.GSParams(folding_threshold=5e-4, maxk_threshold=2e-5, kvalue_accuracy=3e-7, maximum_fft_size=32768)
DOUBTFUL = 1e-4
"""Where the norm of the error is larger, GalSim draws again with other settings."""
GALAXIES = ("single Sersic", "bulge and disc")
PSFS = ("moffat", "kolmogorov", "gaussian", "optical", "image", "undersampled")
CORNERS = ((10, 6.0), (0.75, 6.0), (10, 0.5), (0.75, 0.5))
"""Radii in pixels and indices of the first draws: the prior's corners."""
SHARING = 20
"""Galaxies behind one optical PSF."""
LONG, WIDEST = 8, 0.15
"""Of the transforms that hold optical PSFs: stamps in half a period, and the widest pixel in arcsec that they fill with one sample."""
LIMITS = (1e-3, 1e-3, 3e-4)
FIGURES = ("largest pixel error / peak", "error of the stamp's flux", "norm of the error / norm")


def galaxies(name: str, scale: float) -> SersicGalaxy | BulgeDiscGalaxy:
    """Return a population, as large in pixels for any pixel scale: half-light radii from 0.75 to 10 pixels, of bulges from half a pixel."""
    sizes = LogUniform(low=0.75 * scale, high=10 * scale)
    if name == "single Sersic":
        return SersicGalaxy(re_arcsec=sizes, ellipticity=DiscBlock(sigma=0.4, high=0.7))
    return BulgeDiscGalaxy(disc_re_arcsec=sizes, bulge_re_arcsec=LogUniform(low=0.5 * scale, high=7.5 * scale))


def psfs_of(kind: str, count: int) -> list[PSFDraw]:
    """Return PSFs of one type."""
    rng = np.random.default_rng([SEED, PSFS.index(kind)])
    fwhm, shears = rng.uniform(0.55, 1.0, count), rng.normal(0, 0.03, (count, 2))
    if kind in ("moffat", "kolmogorov"):
        profiles = ShearedProfiles(kind=kind, fwhm_arcsec=fwhm, beta=rng.uniform(2.2, 4.5, count), g1=shears[:, 0], g2=shears[:, 1])
        return [profiles.one(i, 0.2) for i in range(count)]
    if kind == "gaussian":
        return [PSFDraw(profile=galsim.Gaussian(fwhm=f).shear(g1=g[0], g2=g[1])) for f, g in zip(fwhm, shears, strict=True)]
    # GalSim takes seconds to prepare an optical PSF, so many galaxies share one
    widths = fwhm[: 1 + count // SHARING]
    if kind == "undersampled":  # like Euclid's: a core of 0.8 pixels
        made = [PSFDraw(profile=galsim.OpticalPSF(lam_over_diam=0.15 * f / 0.75, obscuration=0.3)) for f in widths]
    else:
        lenses = [galsim.OpticalPSF(lam_over_diam=0.8 * f, obscuration=0.3, defocus=0.1, coma1=0.1) for f in widths]
        images = kind == "image"
        made = [PSFDraw(native_image=PSFDraw(profile=lens).image(0.2, 1, 33)) if images else PSFDraw(profile=lens) for lens in lenses]
    return [made[i // SHARING] for i in range(count)]


def waves_of(scale: float) -> tuple[float, int, int]:
    """Return the period in arcsec, the highest mode and the samples per pixel of the transforms that hold optical PSFs."""
    fine = 1 if scale > WIDEST else 2
    return 2 * LONG * SIZE * scale, LONG * SIZE * fine, fine


@functools.lru_cache(maxsize=1)
def modes_of(psf: PSFDraw, scale: float) -> np.ndarray:
    """Return an optical PSF on modes; GalSim prepares it anew for each stamp otherwise."""
    return half_plane(psf.profile, scale)


def half_plane(profile: galsim.GSObject, scale: float) -> np.ndarray:
    """Return the transform on modes, those of positive frequencies along x, as of `np.fft.rfft2`; the others are their conjugates."""
    period, highest, _ = waves_of(scale)
    image = galsim.ImageCD(galsim.BoundsI(0, highest, -highest, highest - 1), scale=2 * np.pi / period)
    profile._drawKImage(image)  # drawKImage itself takes whole planes only
    return np.fft.ifftshift(image.array, axes=0)


def truth_of(galaxy: galsim.GSObject, psf: PSFDraw, kind: str, scale: float) -> np.ndarray:
    """Return the stamp by GalSim; for optical PSFs from GalSim's transforms."""
    if kind not in ("optical", "undersampled"):
        return psf.observed(galaxy, scale, 1, SIZE).astype(np.float64)
    period, highest, fine = waves_of(scale)
    step = period / (2 * highest)
    modes = half_plane(galaxy, scale) * modes_of(psf, scale)

    def bare(frequency: np.ndarray) -> np.ndarray:
        # half a pixel: the stamp's centre lies between pixels
        return np.sinc(frequency * scale) * np.exp(-1j * np.pi * frequency * scale)

    modes *= bare(np.fft.fftfreq(2 * highest, step))[:, None] * bare(np.arange(highest + 1) / period)
    pixels = np.fft.irfft2(modes, s=(2 * highest, 2 * highest)) * (scale / step) ** 2
    middle = np.fft.fftshift(pixels[::fine, ::fine])
    edge = (len(middle) - SIZE) // 2
    return middle[edge + 1 : edge + 1 + SIZE, edge + 1 : edge + 1 + SIZE]


def errors(name: str, kind: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return parameters ``(count, P)`` and the three figures ``(3, count)``."""
    scale = scale_of(kind)
    model, theta = problem(name, kind, count)
    points = psfs_of(kind, count)
    rows = []
    for start in range(0, count, BLOCK):
        some = slice(start, start + BLOCK)
        ones = np.ones(len(theta[some]), np.int64)
        found, _ = model.fourier.draw(theta[some], points[some], scale * ones, ones, SIZE, 33, ZERO_POINT)
        for values, point, drawn in zip(theta[some], points[some], found, strict=True):
            named = dict(zip(model.parameters.names, map(float, values), strict=True))
            exact = model.galaxy.profile(named, ZERO_POINT, exact=True)
            truth = truth_of(exact.withGSParams(TIGHT), point, kind, scale)
            found_errors = compared(drawn, truth)
            if found_errors[2] > DOUBTFUL:
                again = truth_of(exact.withGSParams(OTHERWISE), point, kind, scale)
                if (itself := compared(truth, again)[2]) > compared(drawn, again)[2]:
                    print(f"  draw {len(rows)}: GalSim differs from itself by {itself:.1e} of the norm, from the engine by", end=" ")
                    print(f"{found_errors[2]:.1e} at first and {compared(drawn, again)[2]:.1e} then: {named}", flush=True)
                    found_errors = compared(drawn, again)
            rows.append(found_errors)
    return theta, np.array(rows).T


def compared(drawn: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Return the three figures of a stamp."""
    difference = drawn - truth
    norm = np.sqrt((difference**2).sum() / (truth**2).sum())
    return float(np.abs(difference).max() / truth.max()), float(abs(difference.sum()) / truth.sum()), float(norm)


def scale_of(kind: str) -> float:
    """Return the pixel scale, arcsec."""
    return 0.1 if kind == "undersampled" else 0.2


def problem(name: str, kind: str, count: int) -> tuple[Simulator, np.ndarray]:
    """Return the forward model, and parameters ``(count, P)`` of its prior."""
    scale = scale_of(kind)
    stamp = StampSpec(size=SIZE, pixel_scale_arcsec=scale, zero_point=ZERO_POINT, psf_size=33)
    model = Simulator(
        galaxy=galaxies(name, scale),
        psf=MoffatPSF(fwhm_arcsec=Uniform(low=0.6, high=0.8)),
        noise=RMSNoise(rms=Uniform(low=0.1, high=0.2)),
        stamp=stamp,
    )
    theta = model.parameters.prior.forward(np.random.default_rng(SEED).normal(size=(count, len(model.parameters))))
    if "n" in model.parameters.names:
        theta[: len(CORNERS), 1:3] = [(pixels * scale, n) for pixels, n in CORNERS]
    return model, theta


def draw(theta: np.ndarray, figures: np.ndarray) -> None:
    """Draw the errors over (n, re)."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for axis, name, values in zip(axes, FIGURES, figures, strict=True):
        order = np.argsort(values)  # the worst on top
        dots = axis.scatter(theta[order, 1], theta[order, 2], c=np.log10(values[order]), s=6, vmin=-6, vmax=-3)
        axis.set(xscale="log", yscale="log", xlabel="$R_e$ [arcsec]", ylabel="Sersic $n$", title=name)
        for side, ticks in ((axis.xaxis, (0.15, 0.3, 0.6, 1.2, 2.0)), (axis.yaxis, (0.5, 1.0, 2.0, 4.0, 6.0))):
            side.set_major_locator(FixedLocator(ticks))
            side.set_minor_locator(NullLocator())
            side.set_major_formatter(StrMethodFormatter("{x:g}"))
        figure.colorbar(dots, ax=axis, label="log10")
    save_figure(figure, Path("runs/fourier_error.png"))
    print("picture: runs/fourier_error.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--others", type=int, help="draws of each other type; a tenth of --draws unless given")
    parser.add_argument("--types", nargs="+", choices=PSFS, default=PSFS)
    parser.add_argument("--galaxies", nargs="+", choices=GALAXIES, default=GALAXIES)
    given = parser.parse_args()
    others = given.others or max(20, given.draws // 10)
    print("largest (median) of " + ", ".join(f"{name}: at most {limit:g}" for name, limit in zip(FIGURES, LIMITS, strict=True)))
    missed = 0
    for name in given.galaxies:
        for kind in given.types:
            count = given.draws if kind == "moffat" else others
            theta, figures = errors(name, kind, count)
            largest, met = figures.max(1), figures.max(1) <= LIMITS
            missed += int((~met).sum())
            cells = (
                f"{v:10.1e} ({np.median(row):.1e}) {'met' if ok else 'MISSED'}" for v, row, ok in zip(largest, figures, met, strict=True)
            )
            print(f"{f'{name}, {kind} ({count})':38s}" + "".join(cells), flush=True)
            worst = int(figures[2].argmax())
            named = zip(problem(name, kind, len(CORNERS))[0].parameters.names, theta[worst], strict=True)
            print(f"  the largest norm is of draw {worst}: " + ", ".join(f"{key} {value:.3g}" for key, value in named), flush=True)
            if (name, kind) == ("single Sersic", "moffat"):
                draw(theta, figures)
    print("every limit is met" if not missed else f"{missed} limits are MISSED")
