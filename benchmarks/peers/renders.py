"""Do both draw the same galaxy? Noiseless pixels of a peer's renderers against GalSim's, at the true parameters. Peer's environment.

Prints for each renderer the worst pixel over the peak, the flux in the stamp over GalSim's, and the misfit in units of the stamp's own
noise, ``sqrt(sum(((model - GalSim) / rms) ** 2))``: a fit at a misfit near one or above pays for its renderer in bias. Wrong
conversions would show in every galaxy: it fails if the first renderer has a median worst pixel above `LIMIT`.
``--plant`` makes a conversion of that one wrong, to see it fail.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.peers.conventions import to_pyimfit, to_pysersic

LIMIT = 0.005
"""Of the peak. Renderers are off by 0.001 to 0.01, a swapped axis or a wrong radius by tenths, a pixel that counts twice by 0.02."""
EDGES = (0.5, 0.65, 0.9, 2.5, 6.0)
"""Bins of n. No sum of Gaussians is defined below 0.65."""

Draw = Callable[[dict[str, float], np.ndarray], np.ndarray]
"""From the parameters of a galaxy and the image of a PSF to pixels."""


def pysersic(zero_point: float, scale: float, size: int) -> Iterator[tuple[str, Draw]]:
    """Yield its renderers. That of pixels integrates over those of the core, as the PSF has done already: it is off by percents."""
    from pysersic.rendering import FourierRenderer, HybridRenderer, PixelRenderer

    for name, renderer, options in (
        ("hybrid", HybridRenderer, {}),
        ("30 Gaussians", HybridRenderer, {"n_sigma": 30}),
        ("Fourier", FourierRenderer, {}),
        ("pixel", PixelRenderer, {}),
    ):

        def draw(theta, psf, renderer=renderer, options=options):
            return np.asarray(renderer((size, size), psf, **options).render_source(to_pysersic(theta, zero_point, scale, size), "sersic"))

        yield name, draw


def pyimfit(zero_point: float, scale: float, size: int) -> Iterator[tuple[str, Draw]]:
    from benchmarks.peers.fit_pyimfit import make_fitter, quiet

    def render(theta, psf, oversampling):
        parameters = to_pyimfit(theta, zero_point, scale, size)
        fitter, loaded = make_fitter(psf, parameters, oversampling, size)
        fitter.loadData(np.zeros((size, size)), error=np.ones((size, size)), **loaded)
        return fitter.getModelImage(newParameters=np.array(list(parameters.values())))

    for oversampling in (2, 1):

        def draw(theta, psf, oversampling=oversampling):
            with quiet():
                return render(theta, psf, oversampling)

        yield f"oversampling {oversampling}", draw


def pixel_twice(psf: np.ndarray) -> np.ndarray:
    pixel = np.sinc(np.fft.fftfreq(len(psf)))
    return np.fft.ifft2(np.fft.fft2(psf) * pixel[:, None] * pixel).real


PEERS = {"pysersic": pysersic, "pyimfit": pyimfit}
FAULTS: dict[str, Callable[[dict, np.ndarray, float], tuple[dict, np.ndarray]]] = {
    "mirrored": lambda theta, psf, scale: (theta | {"e2": -theta["e2"]}, psf),
    "turned": lambda theta, psf, scale: (theta | {"e1": -theta["e1"], "e2": -theta["e2"]}, psf),
    "circularised": lambda theta, psf, scale: (theta | {"re_arcsec": theta["re_arcsec"] * np.sqrt(axis_ratio(theta))}, psf),
    "half a pixel": lambda theta, psf, scale: (theta | {"dx_arcsec": theta["dx_arcsec"] + scale / 2}, psf),
    "pixel twice": lambda theta, psf, scale: (theta, pixel_twice(psf)),
}


def axis_ratio(theta: dict[str, float]) -> float:
    e = np.hypot(theta["e1"], theta["e2"])
    return (1 - e) / (1 + e)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stamps", type=Path, default=Path("runs/peers/stamps.npz"))
    parser.add_argument("--peer", choices=list(PEERS), default="pysersic")
    parser.add_argument("--plant", choices=list(FAULTS), help="make this wrong on purpose")
    given = parser.parse_args()
    data = np.load(given.stamps)
    names, zero_point, scale = data["names"].tolist(), float(data["zero_point"]), float(data["pixel_scale_arcsec"])
    medians = []
    print("renderer          n         galaxies  worst pixel / peak (median, max)  flux - 1 (median, worst)  misfit, sigma (median, max)")
    for name, draw in PEERS[given.peer](zero_point, scale, data["images"].shape[-1]):
        rows = []
        for i, expected in enumerate(data["noiseless"].astype(np.float64)):
            theta, psf = dict(zip(names, data["theta"][i].astype(np.float64), strict=True)), data["psf"][i]
            model = draw(*(FAULTS[given.plant](theta, psf, scale) if given.plant else (theta, psf)))
            error = model - expected
            misfit = np.sqrt(np.sum((error / data["rms"][i]) ** 2))
            rows.append((theta["n"], np.abs(error).max() / expected.max(), model.sum() / expected.sum() - 1, misfit))
        n, pixel, flux, misfit = np.array(rows).T
        for low, high in itertools.pairwise(EDGES):
            some = (n >= low) & (n < high)
            if some.any():
                p, f, m = pixel[some], flux[some], misfit[some]
                print(
                    f"{name:16s}  {low:.2f}-{high:.2f}  {some.sum():4d}      {np.median(p):9.2e}  {p.max():9.2e}            "
                    f"{np.median(f):+9.2e}  {f[np.abs(f).argmax()]:+9.2e}    {np.median(m):8.3f}  {m.max():8.3f}"
                )
        medians.append(np.nanmedian(pixel))
        if given.plant:
            break
    if not medians[0] < LIMIT:
        raise SystemExit(f"the median worst pixel is {medians[0]:.3f} of the peak: are the conventions those of this {given.peer}?")


if __name__ == "__main__":
    main()
