"""The summary network: a dict of arrays in, one context vector out.

Images (rank 3) go through small residual convolutions that halve the side at every stage, vectors (rank 1) join them in the
dense layers. Inputs are standardised by constants measured on training data and kept with the weights. Activations are smooth
(SiLU): fused ReLU kernels swallow NaN on CPUs and answer confidently.
"""

__all__ = ["SummaryNetwork", "Standardise"]

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from astroflow.networks.dense import Dense

CLIP = 50.0


class Standardise(keras.layers.Layer):
    """Subtract a mean and divide by a scale, per channel, both fixed by `adapt`; then limit to +-50."""

    def __init__(self, channels: int, name: str) -> None:
        super().__init__(name=name)
        self.mean = self.add_weight(shape=(channels,), initializer="zeros", trainable=False, name="mean")
        self.scale = self.add_weight(shape=(channels,), initializer="ones", trainable=False, name="scale")

    def adapt(self, values: np.ndarray) -> None:
        """Measure mean and scale over all axes but the last."""
        flat = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
        sd = flat.std(0)
        self.mean.assign(flat.mean(0).astype(np.float32))
        # a channel that never changes keeps its scale; what counts as small depends on the unit
        self.scale.assign(np.where(sd > 1e-6 * np.abs(flat).max(0), sd, 1.0).astype(np.float32))

    def call(self, x: Any) -> Any:
        return _standardised(x, *map(tf.convert_to_tensor, (self.mean, self.scale)))


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
def _standardised(x: Any, mean: Any, scale: Any) -> Any:
    # compiled, a pass over the images rather than four
    return tf.clip_by_value((x - mean) / scale, -CLIP, CLIP)


class SummaryNetwork:
    """Compress named arrays to one context vector.

    Parameters
    ----------
    shapes : mapping of str to tuple
        Shape of one object's array for each input: ``(H, W, C)`` for images, ``(K,)`` for vectors.
    channels : mapping of str to sequence of int
        Channels of each stage, per image input; a stage halves the side.
    blocks : int or sequence of int
        Residual blocks per stage, from the finest on; the last number holds for all stages that are left.
    dense : sequence of int
        Units of the dense layers that join all inputs.
    context : int
        Length of the context vector.
    seed : int
        Seeds the initial weights.
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        channels: Mapping[str, Sequence[int]],
        blocks: int | Sequence[int],
        dense: Sequence[int],
        context: int,
        seed: int,
    ) -> None:
        self._seeds = np.random.default_rng([seed, 7])
        self.standardise = {name: Standardise(shape[-1], name=f"standardise_{name}") for name, shape in sorted(shapes.items())}
        # the prefix keeps an input's name apart from those of the layers below
        inputs = {f"input_{name}": keras.Input(tuple(shapes[name]), name=f"input_{name}", dtype="float32") for name in self.standardise}
        features, direct = [], []
        for name, standardise in self.standardise.items():
            x = standardise(inputs[f"input_{name}"])
            if len(shapes[name]) == 3:
                x = self._trunk(x, name, channels[name], blocks)
            else:
                direct.append(x)
            features.append(x)
        x = features[0] if len(features) == 1 else keras.layers.Concatenate(name="join")(features)
        for k, units in enumerate(dense):
            y = self._dense(units, f"dense{k}", "silu")(x)
            # layers of equal width are residual
            x = keras.layers.Add(name=f"dense{k}_add")([x, y]) if x.shape[-1] == units else y
        # vectors reach the context by a straight line too: a logarithm among them need not be relearned by the dense layers
        if direct:
            x = keras.layers.Concatenate(name="skip")([x, *direct])
        output = self._dense(context, "context", None)(x)
        self.model = keras.Model(inputs, output, name="summary")

    def _init(self, gain: float = 1.0) -> Any:
        return keras.initializers.VarianceScaling(
            2.0 * gain, mode="fan_in", distribution="truncated_normal", seed=int(self._seeds.integers(2**31))
        )

    def _dense(self, units: int, name: str, activation: str | None) -> Any:
        return Dense(units, activation=activation, kernel_initializer=self._init(0.5), name=name)

    def _conv(self, filters: int, size: int, name: str, *, strides: int = 1, activation: str | None = "silu", gain: float = 1.0) -> Any:
        return keras.layers.Conv2D(
            filters, size, strides=strides, padding="same", activation=activation, kernel_initializer=self._init(gain), name=name
        )

    def _trunk(self, x: Any, name: str, channels: Sequence[int], blocks: int | Sequence[int]) -> Any:
        numbers = [blocks] if isinstance(blocks, int) else blocks
        for stage, filters in enumerate(channels):
            x = self._conv(filters, 5 if stage == 0 else 3, f"{name}_stage{stage}", strides=2)(x)
            for b in range(numbers[min(stage, len(numbers) - 1)]):
                y = self._conv(filters, 3, f"{name}_stage{stage}_block{b}a")(x)
                y = self._conv(filters, 3, f"{name}_stage{stage}_block{b}b", activation=None, gain=0.1)(y)
                x = keras.layers.Add(name=f"{name}_stage{stage}_block{b}")([x, y])
        return keras.layers.Flatten(name=f"{name}_flat")(x)

    def adapt(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Measure the standardisation of every input on training data."""
        for name, layer in self.standardise.items():
            layer.adapt(inputs[name])

    def __call__(self, inputs: Mapping[str, Any], training: bool = False) -> Any:
        """Return context vectors ``(N, context)``."""
        return self.model({f"input_{name}": inputs[name] for name in self.standardise}, training=training)
