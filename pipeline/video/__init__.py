"""Read and write video files: open, choose frames by time, shrink, store."""
