"""Predict videos with a model: requests, decoding, scoring, the HTTP answer, the server.

A registered model carries this package and those that it imports (common, tasks, video, clips,
model) as code. So it imports nothing else of the project.
"""
