"""Two evaluated models side by side: runs, registered versions, commits, or what lies on disk."""
