"""The CNN-LSTM and its family: a CNN on each frame by TimeDistributed, layers over time, a head.

The family is known as LRCN (Donahue et al., 2015, arXiv 1411.4389). The package itself does not
import TensorFlow, because params.py reads its settings.
"""

from pipeline.common.tensorflow import hide_startup_messages

hide_startup_messages()
