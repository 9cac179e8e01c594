"""What every stage and command shares: errors, files, paths, how a command starts and ends."""
