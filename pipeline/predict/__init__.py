"""The predict command: videos in, a table, csv or JSON out."""
