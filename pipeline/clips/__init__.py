"""From the frames of a video to a clip of fixed length with a mask, and many clips on disk."""
