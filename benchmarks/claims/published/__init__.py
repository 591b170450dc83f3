"""The published 7B runs of Flexible Entropy Control (arXiv 2602.09782)."""
