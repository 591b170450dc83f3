"""Benchmarks that answer a question beside the claims."""
