import numpy as np
import pytest

from astroflow.sims.masks import MaskPopulation

NONE = {"frame_probability": 0.0, "edge_probability": 0.0, "neighbours_mean": 0.0, "column_probability": 0.0, "pixel_fraction": 0.0}
SIZE = 48


def draw(n=3000, seed=0, **changes):
    return MaskPopulation(**(NONE | changes)).draw(np.random.default_rng(seed), n, SIZE, SIZE)


def test_masks_depend_on_the_generator_alone():
    masks = MaskPopulation().draw(np.random.default_rng(5), 20, SIZE, SIZE)
    assert masks.shape == (20, SIZE, SIZE)
    assert masks.dtype == bool
    assert np.array_equal(masks, MaskPopulation().draw(np.random.default_rng(5), 20, SIZE, SIZE))
    assert not np.array_equal(masks, MaskPopulation().draw(np.random.default_rng(6), 20, SIZE, SIZE))


def test_nothing_is_masked_when_nothing_is_asked_for():
    assert not draw().any()


def test_bad_pixels_have_their_share():
    masks = draw(n=500, pixel_fraction=0.01)
    assert abs(masks.mean() - 0.01) < 5 * np.sqrt(0.01 / masks.size)


@pytest.mark.parametrize("kind", ["frame_probability", "edge_probability", "column_probability"])
def test_each_kind_comes_as_often_as_asked(kind):
    masks = draw(**{kind: 0.4}, edge_max=0.5, frame_min=0.2)
    share = masks.any((1, 2)).mean()
    # A strip or frame of less than a pixel masks nothing.
    assert 0.4 * 0.93 - 0.04 < share < 0.44


def test_a_frame_leaves_a_centred_rectangle_of_at_least_its_smallest_side():
    masks = draw(frame_probability=1.0, frame_min=0.5)
    assert np.array_equal(masks, masks[:, ::-1])
    assert np.array_equal(masks, masks[:, :, ::-1])
    rows, columns = (~masks).any(2).sum(1), (~masks).any(1).sum(1)
    assert min(rows.min(), columns.min()) >= 0.5 * SIZE - 1
    assert np.array_equal((~masks).sum((1, 2)), rows * columns)
    assert not np.array_equal(rows, columns)


def test_a_lost_edge_is_a_strip_on_one_side_no_wider_than_allowed():
    masks = draw(edge_probability=1.0, edge_max=0.25)
    fraction = masks.mean((1, 2))
    assert fraction.max() <= 0.25 + 1 / SIZE
    sides = [masks[:, 0].all(1), masks[:, -1].all(1), masks[:, :, 0].all(1), masks[:, :, -1].all(1)]
    assert np.sum(sides, axis=0).max() == 1
    assert all(abs(side.mean() - 0.25) < 0.05 for side in sides)


def test_a_bad_line_is_one_row_or_one_column():
    masks = draw(column_probability=1.0)
    assert (masks.sum((1, 2)) == SIZE).all()
    rows = masks.all(2).sum(1)
    assert (rows + masks.all(1).sum(1) == 1).all()
    assert 0.45 < rows.mean() < 0.55


@pytest.mark.parametrize("radius_max", [0.02, 0.2])
def test_neighbours_are_discs_that_leave_the_centre_free(radius_max):
    masks = draw(neighbours_mean=4.0, neighbour_radius_max=radius_max)
    middle = slice(SIZE // 2 - 1, SIZE // 2 + 1)
    assert not masks[:, middle, middle].any()
    assert masks.any((1, 2)).mean() > 0.3
    # At most four discs of the largest radius, counted generously at their rims.
    assert masks.sum((1, 2)).max() <= 4 * np.pi * (radius_max * SIZE + 1) ** 2


def test_the_shipped_population_leaves_most_pixels():
    fraction = MaskPopulation().draw(np.random.default_rng(0), 2000, SIZE, SIZE).mean((1, 2))
    assert 0.05 < fraction.mean() < 0.3
    assert fraction.max() < 0.95
    assert (fraction < 0.05).mean() > 0.3
