"""Every forward-model recipe that ships loads and draws."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits

from astroflow.sims.recipe import load_simulator, simulator_data

FOLDER = Path(__file__).resolve().parents[2] / "sims"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def test_there_are_recipes():
    assert RECIPES


@pytest.fixture(autouse=True)
def stand_ins(tmp_path, monkeypatch):
    """Survey data are not in the checkout: recipes that need PSF images get a made-up one under $ASTROFLOW_DATA."""
    y, x = np.mgrid[-24:25, -24:25]
    for path in RECIPES:
        wanted = yaml.safe_load(path.read_text())["psf"].get("path")
        if wanted:
            inside = re.fullmatch(r"\$\{ASTROFLOW_DATA[^}]*\}/(.+)", wanted)
            assert inside, f"{path.name}: data files are named under ${{ASTROFLOW_DATA}}"
            (tmp_path / inside[1]).parent.mkdir(parents=True, exist_ok=True)
            fits.PrimaryHDU(np.exp(-0.5 * (x**2 + y**2) / 1.6**2).astype(np.float32)).writeto(tmp_path / inside[1])
    monkeypatch.setenv("ASTROFLOW_DATA", str(tmp_path))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_it_draws_stamps_that_hold_a_galaxy(path):
    simulator = load_simulator(path)
    simulation = simulator.draw([f"{path.stem}-{k}" for k in range(2)], seed=1)
    stamps = simulation.stamps
    assert np.isfinite(stamps.images).all()
    assert (stamps.rms > 0).all()
    assert np.allclose(stamps.psf.sum((-1, -2)), 1, atol=1e-4)
    assert (simulation.snr > 0).all()
    assert simulator.parameters.prior.contains(simulation.theta).all()


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_it_says_what_it_is_and_resolves_to_plain_data(path):
    assert path.read_text().startswith("# ")
    resolved = simulator_data(path)
    assert len(resolved["description"]) > 20
    assert yaml.safe_load(yaml.safe_dump(resolved)) == resolved


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_turning_its_stamps_is_fair(path):
    assert load_simulator(path).parameters.prior_is_symmetric()
