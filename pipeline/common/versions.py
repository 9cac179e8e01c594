"""Version of decoded frames, apart from the records so that few stages depend on it."""

# Increase it when the same file and settings would give other frames. The frame store and every
# registered model carry the number, and a model refuses frames of another version.
FRAMES_VERSION = 3
