from dataclasses import replace

import galsim
import numpy as np
import pytest

from astroflow.errors import ConfigError
from astroflow.sims.distributions import Uniform
from astroflow.sims.psfs import PSFDraw
from astroflow.training.feed import SimulationFeed
from astroflow.training.fresh import FreshFeed, MixedFeed

N, BATCH = 96, 8


@pytest.fixture(scope="session")
def simulator(small_simulator):
    """PSFs so alike that those of one binning share their modes: each set of modes is compiled for seconds."""
    psf = small_simulator.psf.model_copy(update={"fwhm_arcsec": Uniform(low=0.58, high=0.66)})
    return replace(small_simulator, engine="fourier", psf=psf)


@pytest.fixture
def feed(simulator):
    def made(**changes):
        return FreshFeed(**({"simulator": simulator, "batch_size": BATCH, "seed": 3, "n": N, "validation": 0.2} | changes))

    return made


def equal(one, other):
    return all(a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a) for a, b in zip(one, other, strict=True))


def test_an_epoch_is_a_function_of_the_seed_and_its_number_and_can_be_entered_anywhere(feed):
    epoch = list(feed().epoch(2))
    assert len(epoch) == feed().steps_per_epoch == N // BATCH
    again = feed()
    list(again.epoch(1))
    for first in (0, 1, 4, 11):
        assert equal(list(again.epoch(2, first)), epoch[first:])
    assert not equal(list(feed(seed=4).epoch(2)), epoch)


def test_no_galaxy_comes_twice(feed):
    made = feed()
    held_out = made.held_out()
    assert len(held_out) == round(0.2 * N)
    theta = np.concatenate(
        [
            *(batch["theta"] for number in range(2) for batch in made.epoch(number)),
            *(simulation.theta for simulation in (held_out, made.observed_anew(40), made.unseen(40))),
        ]
    )
    assert len(np.unique(theta[:, 0])) == len(theta)
    assert np.array_equal(held_out.stamps.images, feed().held_out().stamps.images)


def test_blocks_are_the_population_that_single_draws_are(simulator):
    """The same prior, binnings and PSFs; and each image is its parameters' through its PSF."""
    block = simulator.draw_block(np.random.default_rng(1), 600)
    single = [simulator._draw_theta(np.random.default_rng(i)) for i in range(600)]
    theta, binning = np.array([t for _, t in single]), np.array([b for b, _ in single])
    for k in range(theta.shape[1]):
        for b in (1, 2):
            ours, theirs = np.sort(block.theta[block.binning == b, k]), np.sort(theta[binning == b, k])
            grid = np.concatenate([ours, theirs])
            distance = np.abs(np.searchsorted(ours, grid) / len(ours) - np.searchsorted(theirs, grid) / len(theirs)).max()
            assert distance < 1.95 * np.sqrt(1 / len(ours) + 1 / len(theirs))
    # galaxies are seen through the images that are handed out, native pixels being what both know
    clear = replace(simulator, psf=simulator.psf.model_copy(update={"image_size": 17}))
    block = clear.draw_block(np.random.default_rng(1), 20)
    some = np.flatnonzero(block.binning == 1)[:5]
    rendered = clear.render(block.theta[some], clear.observe(block, np.random.default_rng(2)).stamps[some])
    assert np.abs(rendered - block.images[some]).max() < 1e-3 * rendered.max()


def test_populations_of_objects_are_drawn_from_a_pool_that_is_new_in_each_epoch(feed, simulator):
    class Stars:
        drawn = 0

        def draw(self, rng, scale):
            Stars.drawn += 1
            image = galsim.Gaussian(fwhm=rng.uniform(0.58, 0.66)).drawImage(nx=17, ny=17, scale=scale).array
            return PSFDraw(native_image=image / image.sum())

    made = feed(simulator=replace(simulator, psf=Stars()), n=24)
    first, second = list(made.epoch(0)), list(made.epoch(1))
    assert Stars.drawn == 1024
    assert not equal(first, second)
    assert equal(list(feed(simulator=replace(simulator, psf=Stars()), n=24).epoch(1)), second)
    widths = {float(psf.sum()) for batch in first for psf in batch["psf"]}
    assert len(widths) > 15


def test_mixed_batches_come_in_turn(feed, small_training_set, simulator):
    stored = SimulationFeed(data=small_training_set, simulator=simulator, batch_size=BATCH, seed=3, validation=0.05, turns=True)
    mixed = MixedFeed(stored, feed(n=40))
    batches = list(mixed.epoch(1))
    assert len(batches) == mixed.steps_per_epoch == 10
    assert equal(batches[::2], list(stored.epoch(1))[:5])
    assert equal(batches[1::2], list(feed(n=40).epoch(1)))
    for first in (1, 2, 7):
        assert equal(list(mixed.epoch(1, first)), batches[first:])


def test_feeds_know_how_many_galaxies_a_training_sees(feed, small_training_set, simulator):
    """Of mixed ones the fresh half is new in every epoch, the stored half comes again."""
    store = {"simulator": simulator, "batch_size": BATCH, "seed": 3, "turns": False}
    stored = SimulationFeed(data=small_training_set, validation=0.05, **store)
    few = SimulationFeed(data=small_training_set, validation=0.5, **store)
    object.__setattr__(few, "n_train", 40)
    object.__setattr__(few, "_groups", [(0, 40)])
    for made, epochs, expected in (
        (feed(n=40), 3, 120),
        (MixedFeed(few, feed(n=40)), 3, 40 + 120),
        (MixedFeed(few, feed(n=96)), 2, 40 + 80),
        (MixedFeed(stored, feed(n=40)), 1, 80),
    ):
        theta = np.concatenate([batch["theta"] for epoch in range(epochs) for batch in made.epoch(epoch)])
        assert made.distinct(epochs) == expected == len(np.unique(theta[:, 0]))


def test_galsim_is_too_slow_for_it(feed, small_simulator):
    with pytest.raises(ConfigError, match="fresh simulations need `engine: fourier`.*has galsim"):
        feed(simulator=small_simulator)
    with pytest.raises(ConfigError, match="need `engine: fourier`"):
        small_simulator.draw_block(np.random.default_rng(0), 3)
    with pytest.raises(ConfigError, match="an epoch of 5 simulations is smaller than a batch of 8"):
        feed(n=5)
