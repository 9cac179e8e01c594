"""One module a stage of dvc.yaml: a thin ``main`` over the domain packages."""
