"""Evaluation of a model on test videos: predictions, scores with intervals, slices, audits."""
