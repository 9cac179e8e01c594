"""Labels, splits, the catalog, data checks and the data report."""
