"""Scoring a model's predictions: scores, their intervals, tables and pictures."""
