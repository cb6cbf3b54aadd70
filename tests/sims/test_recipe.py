import importlib.metadata
import sys
from typing import Literal

import numpy as np
import pytest
import yaml
from astropy.io import fits

from astroflow.config import Recipe
from astroflow.errors import ConfigError
from astroflow.sims import recipe as recipe_module
from astroflow.sims.noise import NoiseLevels
from astroflow.sims.recipe import build_simulator, load_simulator, simulator_data, simulator_from_data
from astroflow.sims.simulator import Simulator


@pytest.fixture
def data(root):
    return yaml.safe_load((root / "sims" / "demo_survey.yaml").read_text())


class StripedNoise(Recipe):
    """A noise model from somewhere else."""

    kind: Literal["striped"] = "striped"
    level: float = 2.0

    def levels(self, rng, n):
        return NoiseLevels(np.full((n, 1), self.level), np.full((n, 1), np.inf))


def install(monkeypatch, group, **targets):
    """Pretend that a package with these entry points is installed."""
    points = [importlib.metadata.EntryPoint(name=name, value=value, group=group) for name, value in targets.items()]
    real = importlib.metadata.entry_points
    monkeypatch.setattr(recipe_module, "entry_points", lambda group: [*real(group=group), *(p for p in points if p.group == group)])


@pytest.fixture
def elsewhere(monkeypatch, small_simulator):
    """A module of someone else's."""
    import types

    module = types.ModuleType("elsewhere")
    module.StripedNoise, module.number, module.simulator, module.make = StripedNoise, 5, small_simulator, lambda: small_simulator
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    return module


def test_a_recipe_is_loaded_by_name_and_by_path(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_name, by_path = load_simulator("demo_survey"), load_simulator(root / "sims" / "demo_survey.yaml")
    assert by_name == by_path
    assert by_name.name == "demo_survey"


def test_the_simulator_data_is_plain_whole_and_gives_the_same_simulator(root):
    resolved = simulator_data("demo_survey")
    assert yaml.safe_load(yaml.safe_dump(resolved)) == resolved
    assert resolved["masks"]["frame_probability"] == 0.3
    assert resolved["galaxy"]["n_table"] == 64
    again, resolved_again = build_simulator(resolved, "demo_survey")
    assert again == load_simulator("demo_survey")
    assert simulator_from_data(resolved).parameters == again.parameters
    assert resolved_again == resolved


def test_psf_images_are_looked_for_beside_the_recipe(data, tmp_path, monkeypatch):
    y, x = np.mgrid[-8:9, -8:9]
    fits.PrimaryHDU(np.exp(-0.5 * (x**2 + y**2) / 4).astype(np.float32)).writeto(tmp_path / "psf.fits")
    data["psf"] = {"kind": "images", "path": "psf.fits"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    simulator = load_simulator(tmp_path / "mine.yaml")
    assert simulator.draw([0], seed=1).stamps.psf.shape == (1, 1, 25, 25)
    assert simulator_data(tmp_path / "mine.yaml")["psf"]["path"] == str(tmp_path / "psf.fits")


def test_plain_data_say_which_psf_images_they_mean(data, tmp_path):
    """A path alone would take another file for the same forward model."""
    y, x = np.mgrid[-8:9, -8:9]

    def write(width):
        fits.PrimaryHDU(np.exp(-0.5 * (x**2 + y**2) / width**2).astype(np.float32)).writeto(tmp_path / "psf.fits", overwrite=True)

    write(2.0)
    data["psf"] = {"kind": "images", "path": "psf.fits"}
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(yaml.safe_dump(data))
    resolved = simulator_data(recipe)
    assert resolved == simulator_data(recipe) == build_simulator(resolved)[1]
    assert len(resolved["psf"]["sha256"]) == 64
    before = simulator_from_data(resolved).draw([0], seed=1)
    assert np.array_equal(before.stamps.images, load_simulator(recipe).draw([0], seed=1).stamps.images)
    write(2.01)
    assert simulator_data(recipe) != resolved
    with pytest.raises(ConfigError, match="they are others"):
        simulator_from_data(resolved).draw([0], seed=1)
    recipe.write_text(yaml.safe_dump(resolved))
    with pytest.raises(ConfigError, match=r"mine.yaml: psf: the PSF images in .*psf.fits have sha256"):
        simulator_data(recipe)
    # what draws no PSF needs no file: a model is drawn through the PSF that it is given
    (tmp_path / "psf.fits").unlink()
    assert simulator_from_data(resolved).render(before.theta, before.stamps).shape == (1, 1, 48, 48)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["galaxy"].update(nn=1), "my.yaml: galaxy: unknown key `nn`; known keys: .*Did you mean 'n'?"),
        (lambda d: d["galaxy"]["mag"].update(lo=1), "galaxy: unknown key `mag.lo`; .*Did you mean 'low'?"),
        (lambda d: d["galaxy"]["re_arcsec"].update(lo=1), "galaxy: unknown key `re_arcsec.lo`; .*Did you mean 'low'?"),
        (lambda d: d["galaxy"]["n"].update(high=9), "GalSim's Sersic takes 0.3 to 6.2"),
        (lambda d: d["psf"].update(kind="mofat"), "my.yaml: unknown psf kind 'mofat'; known kinds: images, kolmogorov, moffat. Did you mean 'moffat'?"),
        (lambda d: d["psf"].pop("kind"), "my.yaml: `psf.kind` is missing; known kinds: moffat, kolmogorov, images"),
        (lambda d: d["psf"]["fwhm_arcsec"].update(kind="nrmal"), "unknown kind 'nrmal' of `fwhm_arcsec`; .*Did you mean 'normal'?"),
        (lambda d: d.pop("noise"), "my.yaml: missing key `noise`"),
        (lambda d: d.update(mask={}), "unknown key `mask`; .*Did you mean 'masks'?"),
        (lambda d: d["masks"].update(frame=1), "unknown key `masks.frame`"),
        (lambda d: d["stamp"].pop("zero_point"), "my.yaml: missing key `stamp.zero_point`"),
        (
            lambda d: (d["galaxy"]["mag"].update(low=14, high=28), d["galaxy"]["re_arcsec"].update(low=0.5, high=1.0)),
            "my.yaml: galaxy: only .* lies between the bounds of `re_arcsec` at mag 14",
        ),
        (lambda d: d["galaxy"]["ellipticity"].update(names=["g1", "g2"]), "my.yaml: galaxy: parameters .*'e1'.* and prior .*'g1'.* differ"),
        (lambda d: d["galaxy"]["re_arcsec"].update(magnitude="n"), "my.yaml: galaxy: `re_arcsec` follows `n`, which must come in an earlier block"),
        (lambda d: d.update(noise={"kind": "rms", "rms": 0}), "my.yaml: noise: `rms`: every value must be positive; the smallest is 0"),
        (lambda d: d.update(noise={"kind": "rms", "rms": 1, "gain": 0}), "noise: `gain`: every value must be positive; the smallest is 0"),
        (lambda d: d["noise"].update(gain={"kind": "uniform", "low": 0, "high": 5}), "noise: `gain`: every value must be positive"),
        (lambda d: d["noise"].update(sky=-1), "noise: `sky` and `read_noise_electrons` must not be negative, .*smallest are -1 and 8"),
        (lambda d: d["noise"].update(sky=0, read_noise_electrons=0), "nor both zero, .*smallest are 0 and 0"),
        (lambda d: d["noise"].update(read_noise_electrons=-2), "must not be negative"),
        (lambda d: d["psf"].update(fwhm_arcsec=-1), "my.yaml: psf: `fwhm_arcsec`: every value must be positive; the smallest is -1"),
        (lambda d: d["psf"]["fwhm_arcsec"].update(low=0), "psf: `fwhm_arcsec`: every value must be positive; the smallest is 0"),
        (lambda d: d.update(psf={"kind": "kolmogorov", "fwhm_arcsec": 0}), "psf: `fwhm_arcsec`: every value must be positive"),
        (lambda d: d["psf"].update(beta=1.0), "psf: `beta`: every value must be above 1.1, as GalSim's Moffat asks; the smallest is 1"),
        (lambda d: d.update(psf={"kind": "images", "path": "x", "sha256": "abc"}), "psf: `sha256` .*should match pattern"),
        (lambda d: d["psf"]["beta"].update(low=1.1), "psf: `beta`: every value must be above 1.1"),
    ],
)  # fmt: skip
def test_each_mistake_in_a_recipe_is_named(data, change, message):
    data.setdefault("masks", {})
    change(data)
    with pytest.raises(ConfigError, match=message):
        build_simulator(data, "my.yaml")


def test_a_detector_without_sky_has_its_read_noise(data):
    data["noise"].update(sky=0.0, gain=2.0, read_noise_electrons=8.0)
    assert build_simulator(data)[0].noise.levels(np.random.default_rng(0), 3).rms.tolist() == [[4.0]] * 3


def test_an_installed_part_is_a_kind_like_any_other(data, monkeypatch, elsewhere):
    install(monkeypatch, "astroflow.noises", striped="elsewhere:StripedNoise")
    data["noise"] = {"kind": "striped", "level": 3.0}
    simulator, resolved = build_simulator(data)
    assert simulator.noise == StripedNoise(level=3.0)
    assert resolved["noise"] == {"kind": "striped", "level": 3.0}
    data["noise"] = {"kind": "striped", "levle": 3.0}
    with pytest.raises(ConfigError, match="noise: unknown key `levle`; known keys: kind, level. Did you mean 'level'?"):
        build_simulator(data)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("elsewhere:number", "should be a subclass of astroflow.config.Recipe; it is 5"),
        ("elsewhere:nothing", "cannot load noise kind 'striped' from 'elsewhere:nothing'"),
        ("nowhere:x", "cannot load noise kind 'striped' from 'nowhere:x'"),
    ],
)
def test_an_installed_part_that_is_broken_is_named(data, monkeypatch, elsewhere, value, message):
    install(monkeypatch, "astroflow.noises", striped=value)
    data["noise"] = {"kind": "striped"}
    with pytest.raises(ConfigError, match=message):
        build_simulator(data)


@pytest.mark.parametrize("name", ["elsewhere:simulator", "elsewhere:make", "installed"])
def test_whole_simulators_come_from_python_or_from_an_installed_package(monkeypatch, elsewhere, name):
    install(monkeypatch, "astroflow.simulators", installed="elsewhere:make")
    assert isinstance(load_simulator(name), Simulator)
    assert load_simulator(name) is elsewhere.simulator
    assert simulator_data(name) == {"reference": name}
    assert simulator_from_data(simulator_data(name)) is elsewhere.simulator


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("elsewhere:number", "'elsewhere:number' should be an astroflow Simulator or a function that returns one; it is int"),
        ("elsewhere:nothing", "cannot load simulator 'elsewhere:nothing'"),
        ("nowhere_at_all:x", "cannot load simulator 'nowhere_at_all:x': No module named"),
        ("demo_survy", "no sims recipe 'demo_survy'.*Did you mean 'demo_survey'?"),
    ],
)
def test_a_simulator_that_cannot_be_had_is_one_clear_error(elsewhere, name, message):
    with pytest.raises(ConfigError, match=message):
        load_simulator(name)
