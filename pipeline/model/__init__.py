"""The CNN-LSTM: a CNN on each frame by TimeDistributed, an LSTM over the frames' features.

The family is known as LRCN (Donahue et al., 2015, arXiv 1411.4389).
"""

import os

# TensorFlow reads this once, when it is imported, and prints pages about processor features
# and missing GPUs otherwise. Set it to 0 to see them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
