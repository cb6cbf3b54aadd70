"""Keeping small things small in compiled graphs.

XLA fuses what is cheap into whatever loop uses it. So a number per galaxy, the cosine of a phase or a folded spectrum is worked out anew
for every mode and for every reader, which made compiled stamps ten times slower than the sum of their steps. Nothing
is fused across a branch whose condition is only known at run time; `settled` is such a branch, whose other way, not a number, is taken
where the first value has overflowed.
"""

__all__ = ["settled"]

from typing import Any

NEVER = 3e38


def settled(value: Any) -> Any:
    """Return a tensor unchanged, as one that is computed once; gradients pass."""
    import tensorflow as tf

    if tf.executing_eagerly():
        return value
    first = tf.reshape(value, [-1])[0]
    return tf.cond(first > NEVER, lambda: tf.fill(tf.shape(value), tf.constant(float("nan"), value.dtype)), lambda: value)
