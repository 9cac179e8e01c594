"""Look at data before training: counts, charts, proposed groups and one HTML page."""
