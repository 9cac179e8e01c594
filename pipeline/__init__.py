"""From a folder of labelled videos to an evaluated, registered CNN-LSTM classifier.

Layers point one way: ``stages`` -> domain packages -> ``params``. See dvc.yaml for
the order in which the stages run.
"""
