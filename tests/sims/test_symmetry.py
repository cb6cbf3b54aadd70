import numpy as np

from astroflow.sims.symmetry import TURNS, turn_images


def test_turn_zero_changes_nothing_and_all_eight_differ():
    image = np.arange(9).reshape(3, 3)
    turned = [turn_images(image, turn).tobytes() for turn in range(len(TURNS))]
    assert turned[0] == image.tobytes()
    assert len(set(turned)) == 8


def test_each_axis_goes_where_it_says():
    image = np.zeros((3, 3), int)
    image[0, 2] = 1  # x = 2, y = 0
    for turn, (transpose, flip_x, flip_y) in enumerate(TURNS):
        x, y = (0, 2) if transpose else (2, 0)
        x, y = (2 - x if flip_x else x), (2 - y if flip_y else y)
        assert turn_images(image, turn)[y, x] == 1


def test_only_the_last_two_axes_turn():
    images = np.random.default_rng(0).normal(size=(4, 2, 5, 5))
    for turn in range(8):
        one_by_one = np.stack([[turn_images(image, turn) for image in bands] for bands in images])
        assert np.array_equal(turn_images(images, turn), one_by_one)
