"""Where work runs: processes of this machine, or the machines of a Ray cluster."""
