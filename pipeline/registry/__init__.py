"""The registered model: versions, champions, the gate, provenance, rebuilding and comparison."""
