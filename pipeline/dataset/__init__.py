"""Labels, splits, the catalog and data checks."""
