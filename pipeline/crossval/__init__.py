"""Cross-validation: how well the recipe of params.yaml does on clips that it did not see."""
