"""The registered model: versions, champions, the gate, provenance, rebuilding and comparison.

Every function that reads or writes the registry raises a PipelineError when the MLflow store is
unavailable; docstrings name other errors only.
"""
