import numpy as np
import pytest

import astroflow.training.feed as feed_module
from astroflow.errors import ConfigError
from astroflow.training.feed import SimulationFeed, as_batch
from astroflow.training.training_set import TrainingSet
from astroflow.types import Noiseless


def keys(theta):
    """What a turn does not change tells a galaxy: magnitude, size, index."""
    return {tuple(row) for row in np.asarray(theta)[:, :3].tolist()}


@pytest.fixture
def feed(small_training_set, small_simulator):
    def made(**changes):
        return SimulationFeed(
            **(
                {"data": small_training_set, "simulator": small_simulator, "batch_size": 64, "seed": 3, "validation": 0.05, "turns": True}
                | changes
            )
        )

    return made


@pytest.fixture
def epoch(feed):
    return list(feed().epoch(2))


def equal(one, other):
    return all(a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a) for a, b in zip(one, other, strict=True))


def test_batches_hold_what_the_estimator_takes(epoch, feed):
    assert len(epoch) == feed().steps_per_epoch == 22  # 1536 less 77 held out, by 64
    for batch in epoch:
        assert {name: len(value) for name, value in batch.items()} == dict.fromkeys(batch, 64)
        assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in batch.values())
    assert epoch[0]["theta"].shape == (64, 7)
    assert epoch[0]["auxiliary"].shape == (64, 1)


def test_an_epoch_is_a_function_of_the_seed_and_its_number(epoch, feed):
    again = feed()
    list(again.epoch(1))
    assert equal(list(again.epoch(2)), epoch), "whatever was asked before"
    assert not equal(list(again.epoch(3)), epoch)
    assert not equal(list(feed(seed=4).epoch(2)), epoch)


def test_an_epoch_can_be_entered_at_any_step(epoch, feed):
    for first in (1, 4, 7, 21):
        assert equal(list(feed().epoch(2, first)), epoch[first:])
    assert list(feed().epoch(2, len(epoch))) == []


def test_every_galaxy_comes_once_an_epoch_and_never_looks_the_same(epoch, feed, small_training_set):
    theta = np.concatenate([batch["theta"] for batch in epoch])
    assert len(keys(theta)) == len(theta) == 22 * 64
    other = list(feed().epoch(3))
    first, second = ({tuple(t[:3].tolist()): b["image"][i] for b in e for i, t in enumerate(b["theta"])} for e in (epoch, other))
    shared = first.keys() & second.keys()
    assert len(shared) > 1300
    assert list(first) != list(second), "a new order"
    assert not any(np.isclose(first[k], second[k]).all() for k in shared), "new noise"


def test_held_out_galaxies_are_never_trained_on(feed, small_training_set):
    made = feed()
    held_out = keys(made.held_out().theta)
    trained = set().union(*(keys(batch["theta"]) for number in range(4) for batch in made.epoch(number)))
    assert len(held_out) == made.n_held_out == 77
    assert not held_out & trained
    assert held_out | trained == keys(small_training_set.read(0, 1536).theta)


def test_held_out_simulations_are_observed_once_and_for_all(feed):
    one, other = feed().held_out(), feed().held_out()
    assert np.array_equal(one.theta, other.theta)
    assert one.stamps == other.stamps


@pytest.mark.parametrize(("n", "expected"), [(100, 100), (5000, 1536)])
def test_the_last_simulations_can_be_observed_anew(feed, small_training_set, n, expected):
    made = feed().observed_anew(n)
    assert np.array_equal(made.theta, small_training_set.read(1536 - expected, 1536).theta)
    held_out = feed().held_out()
    assert not np.isclose(made.stamps.images[-77:], held_out.stamps.images).all((1, 2, 3)).any()


def test_auxiliary_is_the_logarithm_of_the_true_snr(feed):
    simulation = feed().held_out()
    assert np.allclose(as_batch(simulation)["auxiliary"][:, 0], np.log(simulation.snr), rtol=1e-5)


def test_turned_galaxies_are_what_their_parameters_say(feed, small_training_set, small_simulator):
    """Rendering the turned parameters through the turned PSF gives the turned picture."""
    clean = small_training_set.read(0, 200)
    turned = feed()._turned(clean, np.random.default_rng(0))
    moved = np.flatnonzero(~np.isclose(turned.theta, clean.theta).all(1))
    assert 0.8 < len(moved) / 200 < 0.95, "seven of eight turns change something"
    rows = moved[:12]
    picked = feed_module._picked(turned, rows)
    stamps = small_simulator.observe(picked, np.random.default_rng(0)).stamps
    peak = picked.images.max((1, 2, 3))
    error = np.abs(small_simulator.render(picked.theta, stamps) - picked.images).max((1, 2, 3)) / peak
    unturned = np.abs(small_simulator.render(clean.theta[rows], stamps) - picked.images).max((1, 2, 3)) / peak
    assert np.median(error) < 0.02
    assert (unturned > 2 * error).mean() > 0.8


def test_without_turns_galaxies_stay_as_they_are(feed, small_training_set):
    stored = {tuple(row) for row in small_training_set.read(0, 1536).theta.tolist()}
    seen = {tuple(row) for batch in feed(turns=False).epoch(0) for row in batch["theta"].tolist()}
    assert seen < stored
    turned = {tuple(row) for batch in feed().epoch(0) for row in batch["theta"].tolist()}
    assert len(turned - stored) > 1000


@pytest.mark.parametrize("epochs", [1, 3])
def test_it_knows_how_many_galaxies_a_training_sees(feed, epochs):
    made = feed()
    seen = set().union(*(keys(batch["theta"]) for epoch in range(epochs) for batch in made.epoch(epoch)))
    assert made.distinct(epochs) == {1: 22 * 64, 3: 1459}[epochs]
    assert abs(len(seen) - made.distinct(epochs)) <= 1, "new noise makes no new galaxy, and an incomplete batch is in another epoch"


def test_sets_larger_than_memory_are_read_in_groups(feed, monkeypatch, small_training_set):
    read = []
    real = TrainingSet.read
    monkeypatch.setattr(TrainingSet, "read", lambda self, start, stop: read.append((start, stop)) or real(self, start, stop))
    monkeypatch.setattr(feed_module, "IN_MEMORY_BYTES", 300 * 4 * (32**2 + 17**2))
    made = feed()
    first = list(made.epoch(0))
    # blocks of four batches: five groups of 256 and one of 179
    assert sorted(read) == [(0, 256), (256, 512), (512, 768), (768, 1024), (1024, 1280), (1280, 1459)]
    assert len(first) == made.steps_per_epoch == 5 * 4 + 2
    theta = np.concatenate([batch["theta"] for batch in first])
    assert len(keys(theta)) == len(theta)
    assert read != sorted(read), "groups come in a new order"
    assert equal(first, list(feed().epoch(0)))


def test_all_of_a_set_in_memory_is_read_once(feed, monkeypatch):
    read = []
    real = TrainingSet.read
    monkeypatch.setattr(TrainingSet, "read", lambda self, start, stop: read.append((start, stop)) or real(self, start, stop))
    made = feed()
    for number in range(3):
        list(made.epoch(number))
    assert read == [(0, 1459)]


@pytest.mark.parametrize(("batch_size", "validation"), [(1024, 0.05), (4096, 0.05), (800, 0.5)])
def test_too_few_simulations_are_a_clear_error(feed, batch_size, validation):
    with pytest.raises(ConfigError, match=r"1536 simulations are too few: .* Simulate more, or lower `training.batch_size`"):
        feed(batch_size=batch_size, validation=validation)


def test_what_is_stored_is_not_changed(feed, small_training_set):
    before = small_training_set.read(0, 64)
    kept = Noiseless(**{name: getattr(before, name).copy() for name in ("theta", "images", "psf", "binning", "ids")})
    feed()._turned(before, np.random.default_rng(0))
    assert np.array_equal(before.images, kept.images)
    assert np.array_equal(before.theta, kept.theta)
