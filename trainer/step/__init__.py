"""One training step: its batch, rewards, measurement and evaluation."""
