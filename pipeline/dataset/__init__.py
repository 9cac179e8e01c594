"""Which videos there are: layouts, targets, splits, the catalog, data checks, the data report."""
