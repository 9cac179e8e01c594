"""First steps with one's own videos: inspect a folder, propose settings, examine the machine."""
