"""How exact the likelihood is where correlated noise meets photon noise, its only approximate case, and what it costs.

A galaxy of the reference problem, brought to a signal-to-noise ratio, with noise whose neighbours are correlated and photon noise that is
some times as large at the peak. Draws of its posterior are weighed with their mean as the reference, as certificates do, and once more each
as its own reference, where the likelihood is exact. Printed are the differences over the posterior, less their mean, as the largest
of all pairs of draws and as rms; then the time of a certificate's likelihood.
"""

import argparse
import dataclasses
import time

from astroflow.networks.loading import import_tensorflow

import_tensorflow()

import numpy as np  # noqa: E402

from astroflow.sims.likelihood import PixelLikelihood  # noqa: E402
from astroflow.sims.recipe import load_simulator  # noqa: E402
from astroflow.types import Stamps  # noqa: E402

SEED, GAIN_LESS, TRIED, CHUNK = 7, np.inf, 400, 16
GALAXY = {"mag": 22.0, "re_arcsec": 0.5, "n": 1.5, "e1": 0.2, "e2": -0.1, "dx_arcsec": 0.03, "dy_arcsec": -0.02}
SHARES = (0.12, 0.3, 0.35, 0.45)
"""What smoothing moves from a pixel to each neighbour. Half would leave no power at the finest scale; the last is nearly singular."""


def drizzled(share: float) -> np.ndarray:
    """Return the correlation of pixels that were smoothed by (share, 1, share) along rows and columns."""
    line = np.convolve([share, 1, share], [share, 1, share]) / (1 + 2 * share**2)
    return np.outer(line, line)


def stamp(model: np.ndarray, image: np.ndarray, psf: np.ndarray, correlation: np.ndarray, gain: float) -> Stamps:
    return Stamps(
        images=image, psf=psf, rms=np.ones_like(model), gain=gain, zero_point=27.0, pixel_scale_arcsec=0.2,
        noise_correlation=correlation.astype(np.float32)[None, None],
    )  # fmt: skip


def repeated(stamps: Stamps, count: int) -> Stamps:
    fields = {name: np.repeat(getattr(stamps, name), count, 0) for name in ("images", "psf", "rms", "gain", "noise_correlation")}
    return Stamps(zero_point=27.0, pixel_scale_arcsec=0.2, **fields)


def exact_log_prob(stamps: Stamps, models: np.ndarray) -> np.ndarray:
    """Return log L ``(S,)`` of models ``(S, 1, H, W)``, each about itself."""
    parts = []
    for start in range(0, len(models), CHUNK):
        some = models[start : start + CHUNK, None]
        parts.append(PixelLikelihood(repeated(stamps, len(some)), some).log_prob(some).numpy()[:, 0])
    return np.concatenate(parts)


class Case:
    """A galaxy in noise, and draws of its posterior."""

    def __init__(self, simulator, psf: np.ndarray, correlation: np.ndarray, snr: float, ratio: float, draws: int) -> None:
        rng, prior = np.random.default_rng(SEED), simulator.parameters.prior
        self.simulator, self.psf = simulator, psf
        theta = np.array([[GALAXY[name] for name in simulator.parameters.names]])
        for _ in range(4):  # the faintness that gives the S/N wanted, without photon noise
            model = self.models(theta)[0]
            bare = stamp(model, model, psf, correlation, GAIN_LESS)
            zero = PixelLikelihood(bare).chi_squared(np.zeros_like(model)[None, None]).numpy()[0, 0]
            theta[0, 0] += 2.5 * np.log10(np.sqrt(zero) / snr)
        model, gain = self.models(theta)[0], self.models(theta).max() / ratio
        size = model.shape[-1]
        # correlated by the same smoothing, drawn as stationary noise on a larger periodic stamp
        field, reach = np.zeros((4 * size, 4 * size)), len(correlation) // 2
        field[np.ix_(range(-reach, reach + 1), range(-reach, reach + 1))] = correlation
        root = np.sqrt(np.maximum(np.fft.fft2(field).real, 0))
        noise = np.fft.ifft2(root * np.fft.fft2(rng.normal(size=field.shape))).real[:size, :size]
        image = model + noise + rng.normal(size=model.shape) * np.sqrt(np.maximum(model, 0) / gain)
        self.stamps = stamp(model, image, psf, correlation, gain)
        u, step = prior.inverse(theta)[0], 1e-3
        ahead, back = (self.models(prior.forward(u + sign * step * np.eye(len(u)))) for sign in (1, -1))
        fisher = PixelLikelihood(self.stamps, model[None]).fisher(((ahead - back) / (2 * step))[None], model[None])
        covariance = np.linalg.inv(fisher.information.numpy()[0] + np.eye(len(u)))
        centre = u + covariance @ (fisher.score.numpy()[0] - u)
        tried = rng.multivariate_normal(centre, 1.3 * covariance, size=TRIED)
        models = self.models(prior.forward(tried))
        exact = exact_log_prob(self.stamps, models)
        off = tried - centre
        weight = exact - 0.5 * (tried**2).sum(1) + 0.5 * np.einsum("si,ij,sj->s", off, np.linalg.inv(1.3 * covariance), off)
        weight = np.exp(weight - weight.max())
        chosen = rng.choice(TRIED, draws, p=weight / weight.sum())
        self.exact, self.drawn = exact[chosen], models[chosen]

    def models(self, theta: np.ndarray) -> np.ndarray:
        """Return noiseless models ``(S, 1, H, W)`` of parameters ``(S, P)``."""
        blank = np.zeros((len(theta), 1, self.simulator.stamp.size, self.simulator.stamp.size))
        stamps = Stamps(images=blank, psf=np.repeat(self.psf[None], len(theta), 0), rms=1.0, zero_point=27.0, pixel_scale_arcsec=0.2)
        return self.simulator.render(theta, stamps, engine="fourier").astype(np.float64)

    def error(self) -> np.ndarray:
        found = PixelLikelihood(self.stamps, self.drawn[None]).log_prob(self.drawn[None]).numpy()[0]
        return found - self.exact


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=256)
    given = parser.parse_args()
    simulator = load_simulator("reference")
    psf = simulator.draw(np.arange(1), SEED).stamps.psf[0, 0]
    print("differences of log L over the posterior: largest, rms")
    for size in (12, 64):
        sized = dataclasses.replace(simulator, stamp=simulator.stamp.model_copy(update={"size": size}))
        for share in SHARES:
            correlation = drizzled(share)
            nearest = correlation[2, 3]
            for snr in (10, 100, 1000):
                for ratio in (3, 30):
                    error = Case(sized, psf, correlation, snr, ratio, given.draws).error()
                    print(
                        f"  {size} x {size}, neighbours {nearest:.2f}, S/N {snr:5d}, photons at the peak {ratio:3d} times: "
                        f"{np.ptp(error):7.4f} {np.std(error):7.4f}",
                        flush=True,
                    )
    case, count = Case(simulator, psf, drizzled(SHARES[1]), 100, 3, given.draws), 16
    stamps, models = repeated(case.stamps, count), np.repeat(case.drawn[None], count, 0)
    for kind in ("float32", "float32", "float64"):  # the first is to warm up
        begin = time.perf_counter()
        likelihood = PixelLikelihood(stamps, models, dtype=kind)
        ready = time.perf_counter()
        likelihood.log_prob(models).numpy()
        end = time.perf_counter()
        print(f"{kind}: {(ready - begin) / count:.4f} s to prepare a stamp, {(end - ready) / count:.4f} s for {given.draws} models of it")


if __name__ == "__main__":
    main()
