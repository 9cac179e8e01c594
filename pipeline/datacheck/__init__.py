"""Is this data fit to train on? Labels, classes, duplicates, and drift since the champion."""
