"""The penalty on weights that every layer of ours takes."""

import keras


def penalty(l2: float) -> keras.Regularizer | None:
    """Return the penalty on the weights of a layer; 0 is none at all."""
    return keras.regularizers.L2(l2) if l2 > 0 else None
