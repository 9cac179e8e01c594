"""Reading and writing video files: open, choose frames by time, shrink, store."""
