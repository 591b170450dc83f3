"""Policies: loading, shape, memory, and the start of those that ship with the package."""
