import numpy as np
import pytest
import tensorflow as tf

from astroflow.posteriors.batches import BATCH, DRAWS, FEW, WIDE, in_blocks


class Graph:
    """Adds each row's own number to its draws, and remembers what it was called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, draws, number):
        self.calls.append((draws.shape, number.shape))
        return [draws + number[:, None, :]]


@pytest.mark.parametrize(("n", "draws"), [(1, 1), (1, 10_000), (3, DRAWS), (2, DRAWS + 1), (BATCH + 1, 5)])
def test_every_draw_meets_the_row_that_it_belongs_to(n, draws):
    noise = np.random.default_rng(0).normal(size=(n, draws, 2)).astype(np.float32)
    number = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    graph = Graph()
    answer = in_blocks(graph, noise, number)
    assert np.array_equal(answer, noise + number[:, None])
    assert answer.flags.c_contiguous, "no view of what was filled up"
    assert set(graph.calls) == {((BATCH, DRAWS, 2), (BATCH, 2))}, "one size, compiled once"
    assert len(graph.calls) == -(-n * -(-draws // DRAWS) // BATCH), "and no call but the last has room left"


@pytest.mark.parametrize(
    ("n", "draws", "wide", "narrow"),
    [(3, 1, 0, 1), (3, 128, 1, 0), (3, 127, 0, 2), (3, WIDE, 1, 0), (3, WIDE + 1, 1, 1), (3, 1000, 4, 0), (9, 1000, 4, 0), (70, 600, 2, 2)],
)
def test_samplers_take_wide_blocks_as_far_as_they_go(n, draws, wide, narrow):
    noise = np.random.default_rng(0).normal(size=(n, draws, 2)).astype(np.float32)
    number, graph = np.arange(2 * n, dtype=np.float32).reshape(n, 2), Graph()
    answer = in_blocks(graph, noise, number, wide=True)
    assert np.array_equal(answer, noise + number[:, None])
    assert answer.flags.c_contiguous
    assert {call[1] for call, _ in graph.calls} == {width for width, blocks in {WIDE: wide, DRAWS: narrow}.items() if blocks}
    assert {call[0] for call, _ in graph.calls if call[1] == WIDE} <= {FEW if n * wide <= 2 * FEW else BATCH}


def test_a_graph_may_return_one_number_per_draw():
    noise = np.random.default_rng(0).normal(size=(2, 70, 3)).astype(np.float32)
    answer = in_blocks(lambda draws, number: [tf.reduce_sum(draws, -1) * number], noise, np.array([[1.0], [2.0]]))
    np.testing.assert_allclose(answer, noise.sum(-1) * [[1], [2]], rtol=1e-5, atol=1e-6)
