"""`astroflow query`: one FITS image and its PSF in; a posterior table, a corner plot and a picture of the fit out."""

__all__ = ["QueryResult", "query"]

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from astroflow.catalogs.derived import summarize_derived
from astroflow.catalogs.fits_images import header_number, header_wcs, pixel_scale_of, read_fits_image
from astroflow.catalogs.maps import rms_of
from astroflow.catalogs.parts import write_parquet
from astroflow.catalogs.posterior_table import RowInfo, build_posterior_table
from astroflow.catalogs.recipe import NoiseMap
from astroflow.catalogs.sky import SkyFrame
from astroflow.errors import ConfigError, InputError
from astroflow.plots.corner import plot_corner
from astroflow.plots.residual import plot_residual
from astroflow.plots.style import save_figure
from astroflow.posteriors.bundle import load_posterior
from astroflow.posteriors.exact.certificate import Certificate, Verdict, likelihood_gaps
from astroflow.posteriors.exact.certify import recertified
from astroflow.posteriors.flags import UNUSABLE, flag_names
from astroflow.posteriors.posterior import Posterior
from astroflow.posteriors.validated import read_validation
from astroflow.provenance import provenance, write_json
from astroflow.sims.noise_correlation import read_noise_correlation
from astroflow.sims.psf_images import tidy_psf
from astroflow.sims.recipe import simulator_from_data
from astroflow.types import Array, Cutout, Stamps

ZERO_POINT_KEYWORDS = ("MAGZERO", "MAGZPT", "MAGZP", "ZEROPNT", "ZP")
NEGATIVE_SHARE = 0.005
"""Negative wings with less of the PSF's light than this are not worth a remark."""


CERTIFIED = 256
"""So many of the draws are weighed by the exact likelihood."""
REFINE_BUDGET = 20_000
"""Evaluations of the likelihood that refining may take, or so many times more as there are more draws than usual."""


@dataclass(frozen=True)
class QueryResult:
    """What a query found: a line per parameter, the flags, and the files."""

    lines: list[str]
    flags: int
    files: list[Path]
    remarks: list[str]
    """What had to be assumed or repaired."""


def query(
    image: Path,
    *,
    psf: Path,
    bundle: Path,
    out: Path,
    rms: str | None = None,
    rms_includes_source: bool = False,
    mask: Path | None = None,
    hdu: str | None = None,
    psf_hdu: str | None = None,
    zero_point: float | None = None,
    pixel_scale_arcsec: float | None = None,
    psf_oversampling: int = 1,
    gain: float | None = None,
    noise_correlation: Path | None = None,
    x: float | None = None,
    y: float | None = None,
    n_draws: int = 2000,
    refine: bool = False,
    seed: int = 0,
) -> QueryResult:
    """Infer one galaxy from FITS files.

    Parameters
    ----------
    image, psf : Path
        FITS images of the galaxy and of its point-spread function (pixel included).
    bundle, out : Path
        The trained posterior, and a folder for the results.
    rms : str, optional
        A FITS noise map (rms without the galaxy's photons) or a number; measured from the image's pixels if left out, and said so.
    rms_includes_source : bool
        The noise map holds the galaxy's own photon noise, which is taken out with the gain, and comes back from the model.
    mask : Path, optional
        FITS image, nonzero = ignore.
    hdu, psf_hdu : str, optional
        Number or name of the image HDU, where a file holds several.
    zero_point : float, optional
        AB magnitude of one image unit; read from the header (MAGZERO, MAGZPT, ...) if left out.
    pixel_scale_arcsec : float, optional
        Read from the WCS if left out; an error if they contradict.
    psf_oversampling : int
        PSF pixels per image pixel.
    gain : float, optional
        Electrons per image unit; read from the header's GAIN if left out, and without that photon noise is neglected. Both are said so.
    noise_correlation : Path, optional
        FITS image of the correlation of the noise, as `astroflow noise-correlation` writes it; the bundle's own if left out.
    x, y : float, optional
        0-based pixel position of the galaxy; the image's centre if left out.
    n_draws, seed : int
        Posterior draws, and their seed.
    refine : bool
        Refine the posterior where its draws fail the certificate and the likelihood applies.

    Raises
    ------
    InputError
        If a file cannot be used, or something needed is missing.
    ConfigError
        If an option is out of range, or refining is asked for and the likelihood does not follow the bundle's forward model.
    """
    _check_options(zero_point, pixel_scale_arcsec, gain, x, y, n_draws)
    remarks: list[str] = []
    pixels, header = read_fits_image(image, _hdu(hdu), "image")
    try:
        point, _ = read_fits_image(psf, _hdu(psf_hdu), "PSF image")
    except InputError as error:
        raise InputError(str(error).replace("with `hdu`", "with --psf-hdu")) from None
    posterior = load_posterior(bundle)
    validated = read_validation(bundle, posterior.digest)
    if refine and likelihood_gaps(posterior.forward_model):
        # an answer that was asked to be exact, and is not, must not look as if it were
        raise ConfigError(
            f"--refine: the likelihood of {bundle} does not follow {_gaps(posterior)}, so refined error bars would be too small"
        )
    gain = _gain(gain, header, remarks)
    stated = None if noise_correlation is None else read_noise_correlation(noise_correlation)
    noise = _noise(rms, pixels, posterior.noise_correlation if stated is None else stated, remarks)
    if rms_includes_source:
        noise = _without_source(noise, pixels, rms, gain)
    cutout = Cutout(
        identity=image.name,
        image=pixels[None],
        rms=noise[None],
        mask=None if mask is None else (_like(mask, "mask", pixels) != 0)[None],
        psf=point[None],
        zero_point=_zero_point(zero_point, header, image),
        pixel_scale_arcsec=_pixel_scale(pixel_scale_arcsec, header, image),
        psf_oversampling=psf_oversampling,
        x=x,
        y=y,
        gain=gain,
        noise_correlation=None if stated is None else stated[None],
    )
    remarks += _psf_remarks(point)
    encoded = posterior.encode([cutout])
    encoded, certificate = posterior.sharpen(encoded, posterior.certify(encoded, CERTIFIED, seed), CERTIFIED, seed)
    draws = posterior.sample(encoded, n_draws, seed)
    columns, flags = posterior.summary_columns(encoded, draws)
    bits = int(flags[0])
    if bits & UNUSABLE:
        raise InputError(f"{image}: {encoded.framed.notes[0]} ({', '.join(flag_names(bits))})")
    lines = [_certificate_line(posterior, certificate)]
    if refine and certificate.inference[0] == Verdict.FAILED:
        refined = posterior.refine(encoded, n_draws, seed, budget=max(REFINE_BUDGET, 30 * n_draws))
        draws, extra = refined.draws, refined.columns(certificate)
        certificate = recertified(posterior, encoded, certificate, refined)
        columns, flags = posterior.summary_columns(encoded, draws)
        columns |= extra
        lines.append(f"refined with {refined.evaluations[0]} evaluations of the likelihood; {_certificate_line(posterior, certificate)}")
    columns |= certificate.columns() | {"linearized": encoded.fitted.astype(np.int8)}
    if encoded.disagreement is not None:
        columns["disagreement"] = encoded.disagreement
        lines.append(f"members of the ensemble: {encoded.disagreement[0]:.3f} nats apart (0: they agree)")
    flags |= certificate.flags()
    bits = int(flags[0])
    centre = _centre(x, y, pixels)
    frame = _sky_frame(header, centre, cutout.pixel_scale_arcsec)
    columns |= summarize_derived(draws, posterior.parameters, cutout.zero_point, frame)
    info = RowInfo(
        row_index=np.zeros(1, np.int64), ids=np.array([image.name]), ra=frame.ra, dec=frame.dec, x=np.array([centre[0]]),
        y=np.array([centre[1]]), snr=encoded.snr, binning=encoded.framed.stamps.binning, flags=flags, notes=np.array(encoded.framed.notes),
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    table = build_posterior_table(posterior.parameters, info, columns, bundle=posterior.digest, samples=draws)
    write_parquet(table, out / "posterior.parquet")
    verdicts = {"inference": int(certificate.inference[0]), "model": int(certificate.model[0])}
    save_figure(plot_corner(draws[0], posterior.parameters, identity=image.name, flags=bits, verdicts=verdicts), out / "corner.png")
    files = [out / "posterior.parquet", out / "corner.png"]
    if "reference" in posterior.forward_model:
        reference = posterior.forward_model["reference"]
        remarks.append(f"no picture of the fit: the bundle's simulator is {reference!r}, which is not imported here")
    else:
        stamps, model = model_picture(posterior, cutout, draws[0].mean(0))
        picture = plot_residual(stamps, model, flags=bits, n_parameters=len(posterior.parameters), verdicts=verdicts)
        save_figure(picture, out / "fit.png")
        files.append(out / "fit.png")
    write_json(out / "provenance.json", {"bundle": posterior.digest, "remarks": remarks, **provenance(_plain(cutout), seed)})
    measured = validated if isinstance(validated, str) else validated.line(float(encoded.snr[0]))
    lines = [*_lines(posterior, columns, float(encoded.snr[0])), *lines, measured]
    return QueryResult(lines, bits, files, remarks)


def _certificate_line(posterior: Posterior, certificate: Certificate) -> str:
    """Say both verdicts in a line."""
    if certificate.inference[0] == Verdict.NOT_APPLICABLE:
        return f"certificate: not applicable, the likelihood does not follow {_gaps(posterior)}"
    words = {Verdict.OK: "passed", Verdict.FAILED: "FAILED"}
    inference, model = (words[Verdict(verdict[0])] for verdict in (certificate.inference, certificate.model))
    return (
        f"certificate: inference {inference} (effective draws {100 * certificate.efficiency[0]:.0f} %, k-hat {certificate.k_hat[0]:.2f}), "
        f"model {model} (chi-squared {certificate.chi_squared[0]:.0f} for {certificate.dof[0]:.0f}, "
        f"residual p {certificate.residual_p[0]:.2g})"
    )


def _gaps(posterior: Posterior) -> str:
    return "; ".join(likelihood_gaps(posterior.forward_model) or ["pixels that came binned"])


def model_picture(posterior: Posterior, cutout: Cutout, theta: Array) -> tuple[Stamps, Array]:
    """Draw the noiseless model of a cutout at given parameters, with GalSim, at the native scale.

    Parameters
    ----------
    posterior : Posterior
        Its forward model draws the galaxy.
    cutout : Cutout
        What was observed.
    theta : ndarray
        ``(P,)`` parameters, offsets counted from the cutout's position.

    Returns
    -------
    stamps : Stamps
        The cutout, PSF tidied.
    model : ndarray
        ``(1, 1, H, W)``.
    """
    if cutout.image is None or cutout.rms is None or cutout.psf is None:
        raise InputError(f"cutout {cutout.identity!r} lacks its image, noise or PSF: there is nothing to draw")
    report = tidy_psf(cutout.psf[None])
    height, width = cutout.image.shape[-2:]
    bad = ~np.isfinite(cutout.image) | ~(np.isfinite(cutout.rms) & (np.asarray(cutout.rms) > 0))
    mask = bad if cutout.mask is None else bad | cutout.mask
    stamps = Stamps(
        images=cutout.image[None], psf=report.images, rms=np.where(bad, 1, cutout.rms)[None], mask=mask[None], gain=np.array(cutout.gain),
        zero_point=cutout.zero_point, pixel_scale_arcsec=cutout.pixel_scale_arcsec, psf_oversampling=cutout.psf_oversampling,
        noise_correlation=cutout.noise_correlation, ids=np.array([cutout.identity]),
    )  # fmt: skip
    x, y = _centre(cutout.x, cutout.y, cutout.image)
    moved = np.array(theta, np.float64)
    names = posterior.parameters.names
    for name, distance in (("dx_arcsec", x - (width - 1) / 2), ("dy_arcsec", y - (height - 1) / 2)):
        if name in names:
            moved[names.index(name)] += distance * cutout.pixel_scale_arcsec
    return stamps, simulator_from_data(posterior.forward_model).render(moved[None], stamps)


def _centre(x: float | None, y: float | None, image: Array) -> tuple[float, float]:
    height, width = image.shape[-2:]
    return (width - 1) / 2 if x is None else x, (height - 1) / 2 if y is None else y


def _check_options(
    zero_point: float | None, pixel_scale_arcsec: float | None, gain: float | None, x: float | None, y: float | None, n_draws: int
) -> None:
    if n_draws < 64:
        raise ConfigError(f"--draws must be at least 64, for the quantiles; got {n_draws}")
    if gain is not None and not gain > 0:
        raise ConfigError(f"--gain must be positive: electrons per image unit; got {gain:g}")
    if pixel_scale_arcsec is not None and not 0 < pixel_scale_arcsec < np.inf:
        raise ConfigError(f"--pixel-scale must be positive: arcsec; got {pixel_scale_arcsec:g}")
    for name, value in (("--zero-point", zero_point), ("--x", x), ("--y", y)):
        if value is not None and not np.isfinite(value):
            raise ConfigError(f"{name} must be a finite number; got {value:g}")


def _hdu(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdigit() else text


def _like(path: Path, what: str, pixels: Array) -> Array:
    array, _ = read_fits_image(path, None, what)
    if array.shape != pixels.shape:
        theirs, ours = (f"{a.shape[1]} x {a.shape[0]}" for a in (array, pixels))
        raise InputError(f"the {what} {path} has {theirs} pixels, the image {ours}")
    return array


def _noise(rms: str | None, pixels: Array, correlation: Array | None, remarks: list[str]) -> Array:
    if rms is not None:
        try:
            return np.full(pixels.shape, float(rms), np.float32)
        except ValueError:
            return _like(Path(rms), "noise map", pixels)
    # differences of neighbours do not see the galaxy, but a correlation of the noise makes them too small
    steps = np.concatenate([np.diff(pixels, axis=0).ravel(), np.diff(pixels, axis=1).ravel()])
    steps = steps[np.isfinite(steps)]
    value = float(1.4826 * np.median(np.abs(steps - np.median(steps))) / np.sqrt(2)) if len(steps) else 0.0
    if value == 0 and len(np.unique(pixels[np.isfinite(pixels)])) > 1:
        raise InputError("the noise cannot be measured: most pixels equal their neighbours. Give --rms, a noise map or a number")
    if value == 0:
        return np.ones_like(pixels)  # nothing in the image at all, which framing tells better
    about = "correlated noise makes that too small"
    if correlation is not None and len(correlation) > 1:
        middle = len(correlation) // 2
        neighbours = float(correlation[middle, middle + 1] + correlation[middle + 1, middle]) / 2
        value /= np.sqrt(1 - neighbours)
        about = f"whose noise is taken to have a correlation of {neighbours:.2f}"
    remarks.append(f"--rms was not given: {value:.4g} is assumed, from differences of neighbouring pixels; {about}")
    return np.full(pixels.shape, value, np.float32)


def _gain(given: float | None, header: Any, remarks: list[str]) -> float:
    if given is not None:
        return given
    value = header.get("GAIN")
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < np.inf:
        remarks.append(f"--gain was not given: {value:g} electrons per image unit is taken from the header's GAIN")
        return float(value)
    remarks.append("--gain was not given, nor is it in the header: the photon noise of the galaxy is neglected")
    return float("inf")


def _without_source(noise: Array, pixels: Array, rms: str | None, gain: float) -> Array:
    """Take the galaxy's photon noise out of a noise map."""
    if rms is None or not Path(rms).is_file():
        raise ConfigError("--rms-includes-source is about a noise map: give it as --rms")
    if not np.isfinite(gain):
        raise ConfigError("--rms-includes-source needs --gain, electrons per image unit, to take the galaxy's photon noise out")
    return rms_of(NoiseMap(kind="rms", path=rms, includes_source=True), noise, pixels, gain)[0]


def _psf_remarks(psf: Array) -> list[str]:
    """Say what is imperfect about a PSF that can be used, and what was done about it."""
    report = tidy_psf(psf[None, None])
    if report.bad[0]:
        return []
    total, negative = float(psf.sum(dtype=np.float64)), float(-psf[psf < 0].sum(dtype=np.float64))
    remarks = []
    if report.renormalised[0]:
        remarks.append(f"the PSF's sum is {total:.4g}; it was normalised")
    if report.recentred[0]:
        remarks.append("the PSF is off-centre or has even sides; it was moved to the middle of its middle pixel")
    if negative > NEGATIVE_SHARE * total:
        remarks.append(f"the PSF's negative wings hold {negative / total:.1%} of its light; they were kept")
    return remarks


def _zero_point(given: float | None, header: Any, image: Path) -> float:
    if given is not None:
        return given
    for keyword in ZERO_POINT_KEYWORDS:
        if keyword in header:
            return header_number(header, keyword, str(image))
    raise InputError(
        f"the zero point of {image} is missing: its header has none of {', '.join(ZERO_POINT_KEYWORDS)}. "
        "Give --zero-point, the AB magnitude of one image unit"
    )


def _pixel_scale(given: float | None, header: Any, image: Path) -> float:
    found = pixel_scale_of(header)
    if given is None and found is None:
        raise InputError(f"the pixel scale of {image} is missing: it has no WCS. Give --pixel-scale in arcsec")
    if given is not None and found is not None and abs(given / found - 1) > 0.01:
        raise InputError(f"--pixel-scale {given:g} contradicts the WCS of {image}, which says {found:.5g} arcsec")
    return float(given if given is not None else found)  # type: ignore[arg-type]


def _sky_frame(header: Any, centre: tuple[float, float], scale: float) -> SkyFrame:
    wcs = header_wcs(header)
    if wcs is None:
        return SkyFrame.unknown(1, scale)
    return SkyFrame.of(wcs, np.array([centre[0]]), np.array([centre[1]]), scale)


def _plain(cutout: Cutout) -> dict[str, Any]:
    small = replace(cutout, image=None, rms=None, mask=None, psf=None, noise_correlation=None)
    return {name: str(value) for name, value in vars(small).items() if value is not None}


def _lines(posterior: Posterior, columns: dict[str, Array], snr: float) -> list[str]:
    lines = [f"S/N {snr:.0f}"]
    for parameter in posterior.parameters.members:
        low, mid, high = (float(columns[f"{parameter.name}_{q}"][0]) for q in ("q16", "q50", "q84"))
        lines.append(f"{parameter.name:12s} {mid:10.4f}  +{high - mid:.4f} -{mid - low:.4f}  {parameter.unit}")
    for name in ("q", "re_circ_arcsec"):
        if f"{name}_q50" in columns:
            low, mid, high = (float(columns[f"{name}_{q}"][0]) for q in ("q16", "q50", "q84"))
            lines.append(f"{name:12s} {mid:10.4f}  +{high - mid:.4f} -{mid - low:.4f}")
    return lines
