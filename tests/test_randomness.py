import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astroflow.randomness import derived_seed, generator, standard_normals

keys = st.one_of(st.integers(), st.text(max_size=8))


@given(seed=st.integers(), purpose=st.text(max_size=8), key=st.lists(keys, max_size=3))
def test_same_key_gives_the_same_numbers(seed, purpose, key):
    first, second = (generator(seed, purpose, *key).random(4) for _ in range(2))
    assert np.array_equal(first, second)


@given(st.lists(st.tuples(st.integers(-3, 3), st.sampled_from(["a", "b"]), st.lists(keys, max_size=2)), min_size=2, max_size=4))
def test_different_keys_give_different_numbers(drawn):
    for one, other in itertools.combinations(drawn, 2):
        same = repr(one) == repr(other)
        a, b = (generator(seed, purpose, *key).integers(2**63) for seed, purpose, key in (one, other))
        assert (a == b) == same


def test_the_number_1_and_the_string_1_are_different_keys():
    assert generator(0, "x", 1).random() != generator(0, "x", "1").random()


def test_joined_keys_do_not_collide():
    assert generator(0, "x", "a", "b").random() != generator(0, "x", "a\x1fstr:b").random()
    assert generator(0, "x", "a", "b").random() != generator(0, "xa", "b").random()


def test_numpy_integers_and_strings_are_the_keys_they_look_like():
    assert generator(np.int32(5), "x", np.int64(3)).random() == generator(5, "x", 3).random()
    assert generator(5, "x", np.str_("a")).random() == generator(5, "x", "a").random()


def test_a_fraction_is_not_a_key():
    with pytest.raises(TypeError):
        generator(0, "x", 1.5)


def test_standard_normals_do_not_depend_on_company():
    block = standard_normals(3, "noise", [5, 9, 2], (4, 4))
    assert block.shape == (3, 4, 4)
    assert block.dtype == np.float32
    assert np.array_equal(block[1:2], standard_normals(3, "noise", [9], (4, 4)))
    assert np.array_equal(block[::-1], standard_normals(3, "noise", [2, 9, 5], (4, 4)))


def test_standard_normals_are_standard_and_independent():
    block = standard_normals(0, "noise", np.arange(300), (64,))
    assert abs(block.mean()) < 5 / np.sqrt(block.size)
    assert abs(block.std() - 1) < 5 / np.sqrt(2 * block.size)
    neighbours = np.mean(block[1:] * block[:-1])
    assert abs(neighbours) < 5 / np.sqrt(block.size)


def test_derived_seeds_are_large_and_all_different():
    seeds = [derived_seed(seed, "member", k) for seed in range(30) for k in range(30)]
    assert len(set(seeds)) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert np.median(seeds) > 2**61
    assert min(seeds) > 10**6, "none is one that somebody would choose"
    assert derived_seed(3, "member", 1) == derived_seed(3, "member", 1) != derived_seed(3, "other", 1)
