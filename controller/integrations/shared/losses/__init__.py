"""The decision inside a host's own loss, and the proof that the loss read it."""
