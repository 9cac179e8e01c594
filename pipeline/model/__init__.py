"""CNN-LSTM models: a CNN on each frame, layers over time, and the head of the task.

Source: Donahue et al., LRCN, 2015, arXiv 1411.4389. This file does not import TensorFlow, because
params.py imports pipeline.model.settings.
"""

from pipeline.common.tensorflow import hide_startup_messages

hide_startup_messages()
