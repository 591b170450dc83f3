"""Identification: a plant from logged runs."""
