"""Pictures of a run, and one HTML report of it: what people would rather look at."""
