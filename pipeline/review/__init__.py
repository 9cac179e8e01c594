"""The review of a model: film strips, charts and one HTML page."""
