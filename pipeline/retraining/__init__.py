"""Runs of the whole pipeline: reproduce, retrain, cross-validate, and the steps of CI."""
