"""From a folder of labelled videos to an evaluated, registered CNN-LSTM classifier.

Layers point one way: ``stages`` -> domain packages -> ``params``. See dvc.yaml for
the order in which the stages run.
"""

import os

# TensorFlow reads these once, when it is imported or first used, so they stand here, before
# any module of the project can import it. A value that is set already wins.
#
# All frames of a batch make tensors of tens of megabytes. The C library returns such memory
# to the system after each use, and the page faults of getting it again cost a fifth of a
# training step. TensorFlow's own allocator keeps it.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")
# oneDNN's convolutions, which TensorFlow uses by itself on some processors only, take half
# the time over many frames at once.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
