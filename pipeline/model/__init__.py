"""The CNN-LSTM and its family: a CNN on each frame by TimeDistributed, a head over time.

The family is known as LRCN (Donahue et al., 2015, arXiv 1411.4389). Importing this package
makes its layers known to Keras, so ``keras.models.load_model`` needs no ``custom_objects``.
"""

import os

# TensorFlow reads this once, when it is imported, and prints pages about processor features
# and missing GPUs otherwise. Set it to 0 to see them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# TensorFlow reads these once, when it is imported or first used. A value that is set wins.
#
# All frames of a batch make tensors of tens of megabytes. The C library returns such memory
# to the system after each use, and getting it again takes time. TensorFlow's own allocator
# keeps it.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")
# oneDNN's convolutions, which TensorFlow uses by itself on some processors only, are faster
# over many frames at once.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from pipeline.model import (
    attention,
    batch_norm,
    masking,
    motion,
    pixels,
    temperature,
    time_distributed,
)

__all__ = [
    "attention",
    "batch_norm",
    "masking",
    "motion",
    "pixels",
    "temperature",
    "time_distributed",
]
