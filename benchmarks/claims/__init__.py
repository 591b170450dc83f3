"""Benchmarks that make a figure of README or docs."""
