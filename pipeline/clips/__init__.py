"""Clips: parts of videos with a fixed length, right-padded and masked."""
