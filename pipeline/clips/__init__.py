"""Clips: fixed-length, right-padded, masked parts of videos, in memory, on disk, in batches."""
