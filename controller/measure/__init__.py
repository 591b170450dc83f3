"""Measurement: from logits to token statistics, and from those to the numbers of a batch."""
