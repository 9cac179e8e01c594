"""Who is who among the versions of a registered model."""

CHALLENGER = "challenger"  # the newest that was registered
CHAMPION = "champion"  # the one that passed the gate: docs/promotion.md
