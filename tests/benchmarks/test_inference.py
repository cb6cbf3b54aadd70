"""What arithmetic is counted."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np

from astroflow.networks.maf import ConditionalMAF


def test_operations_are_those_of_weights_that_count(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    operations = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "inference.py"))["operations"]
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 3, strides=2, padding="same")(image)
    model = keras.Model(image, keras.layers.Dense(5)(keras.layers.Flatten()(x)))
    flow = ConditionalMAF(2, 3, layers=1, hidden=(4,))
    estimator = SimpleNamespace(summary=SimpleNamespace(model=model), flow=flow)
    network, per_draw = operations(SimpleNamespace(estimator=estimator))
    context = 2 * 3 * (4 + 4)
    assert network == 2 * (3 * 3 * 1 * 2) * 16 + 2 * 32 * 5 + context
    # units of degrees 0, 0, 1, 1: the second input is seen by none, the first by two; outputs of dimension 1 see all, of 0 half
    assert per_draw == 2 * (2 + 2 * 2 + 2 * 4)
    assert np.isfinite(per_draw)
