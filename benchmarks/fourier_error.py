"""The error of the Fourier engine against GalSim with tightened settings, over the widest recipe and every type of PSF.

Stamps of 64 pixels of 0.2", single Sersic galaxies (n 0.5 to 6, effective radius 0.15 to 2", |e| < 0.7) and bulge-disc ones. For each
type of PSF it prints the largest pixel error over the peak, the error of the stamp's flux, and the norm of the error over that of the
stamp; for single Sersic galaxies through Moffat PSFs it draws them over (n, re): ``runs/fourier_error.png``. ``--draws`` is per galaxy for
Moffat PSFs, a tenth of it for each other type. GalSim takes a fraction of a second for each.
"""

import argparse
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
SIZES = LogUniform(low=0.15, high=2.0)
GALAXIES = {
    "single Sersic": SersicGalaxy(re_arcsec=SIZES, ellipticity=DiscBlock(sigma=0.4, high=0.7)),
    "bulge and disc": BulgeDiscGalaxy(disc_re_arcsec=SIZES, bulge_re_arcsec=LogUniform(low=0.1, high=1.5)),
}
PSFS = ("moffat", "kolmogorov", "gaussian", "optical", "image", "undersampled")
FIGURES = ("largest pixel error / peak", "error of the stamp's flux", "norm of the error / norm")


def psfs_of(kind: str, count: int) -> list[PSFDraw]:
    """Return PSFs of one type."""
    rng = np.random.default_rng([SEED, PSFS.index(kind)])
    fwhm, shears = rng.uniform(0.55, 1.0, count), rng.normal(0, 0.03, (count, 2))
    if kind in ("moffat", "kolmogorov"):
        profiles = ShearedProfiles(kind=kind, fwhm_arcsec=fwhm, beta=rng.uniform(2.2, 4.5, count), g1=shears[:, 0], g2=shears[:, 1])
        return [profiles.one(i, 0.2) for i in range(count)]
    if kind == "gaussian":
        return [PSFDraw(profile=galsim.Gaussian(fwhm=f).shear(g1=g[0], g2=g[1])) for f, g in zip(fwhm, shears, strict=True)]
    # GalSim takes a second to prepare an optical PSF, so ten galaxies share one
    lenses = [galsim.OpticalPSF(lam_over_diam=0.8 * f, obscuration=0.3, defocus=0.1, coma1=0.1) for f in fwhm[: 1 + count // 10]]
    if kind == "image":
        made = [PSFDraw(native_image=PSFDraw(profile=lens).image(0.2, 1, 33)) for lens in lenses]
    elif kind == "optical":
        made = [PSFDraw(profile=lens) for lens in lenses]
    else:  # like Euclid's: a core of 0.8 pixels
        made = [PSFDraw(profile=galsim.OpticalPSF(lam_over_diam=0.15 * f / 0.75, obscuration=0.3)) for f in fwhm[: 1 + count // 10]]
    return [made[i % len(made)] for i in range(count)]


def errors(galaxy, kind: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return parameters ``(count, P)`` and the three figures ``(3, count)``."""
    stamp = StampSpec(size=SIZE, pixel_scale_arcsec=0.1 if kind == "undersampled" else 0.2, zero_point=ZERO_POINT, psf_size=33)
    model = Simulator(
        galaxy=galaxy, psf=MoffatPSF(fwhm_arcsec=Uniform(low=0.6, high=0.8)), noise=RMSNoise(rms=Uniform(low=0.1, high=0.2)), stamp=stamp
    )
    rng = np.random.default_rng(SEED)
    theta = model.parameters.prior.forward(rng.normal(size=(count, len(model.parameters))))
    if "n" in model.parameters.names and kind == "moffat":
        theta[:4, 1:3] = [(2.0, 6.0), (0.15, 6.0), (2.0, 0.5), (0.15, 0.5)]  # the corners
    points = psfs_of(kind, count)
    scale = stamp.pixel_scale_arcsec
    rows = []
    for start in range(0, count, BLOCK):
        some = slice(start, start + BLOCK)
        ones = np.ones(len(theta[some]), np.int64)
        found, _ = model.fourier.draw(theta[some], points[some], scale * ones, ones, SIZE, 33, ZERO_POINT)
        for values, point, drawn in zip(theta[some], points[some], found, strict=True):
            named = dict(zip(model.parameters.names, map(float, values), strict=True))
            galsims = model.galaxy.profile(named, ZERO_POINT, exact=True).withGSParams(TIGHT)
            truth = point.observed(galsims, scale, 1, SIZE).astype(np.float64)
            difference = drawn - truth
            norm = np.sqrt((difference**2).sum() / (truth**2).sum())
            rows.append((np.abs(difference).max() / truth.max(), abs(difference.sum()) / truth.sum(), norm))
    return theta, np.array(rows).T


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
    draws = parser.parse_args().draws
    print(f"{'':34s}" + "".join(f"{name:>30s}" for name in FIGURES))
    for name, galaxy in GALAXIES.items():
        for kind in PSFS:
            theta, figures = errors(galaxy, kind, draws if kind == "moffat" else max(20, draws // 10))
            print(f"{name + ', ' + kind:34s}" + "".join(f"{v.max():20.1e} ({np.median(v):.1e})" for v in figures), flush=True)
            if (name, kind) == ("single Sersic", "moffat"):
                draw(theta, figures)
