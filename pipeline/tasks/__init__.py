"""The task of a model: targets, head, loss, scores, tables, charts, served answer.

Other packages use the interface in ``task.py`` and do not depend on the type of the task.
"""
