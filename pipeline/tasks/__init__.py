"""The task of a model: targets, head, loss, scores, tables, charts, answer. One file a task.

Nothing outside this package knows which task it works on; ``task.py`` has the interface.
"""
