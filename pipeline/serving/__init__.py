"""What a served model does with a request: where it finds the video, decodes it, scores it."""
