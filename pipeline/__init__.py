"""From a folder of labelled videos to an evaluated, registered and served CNN-LSTM.

Packages are layers and import only from the layers below them; docs/architecture.md lists them.
"""

from pipeline.common.tensorflow import hide_startup_messages

hide_startup_messages()
