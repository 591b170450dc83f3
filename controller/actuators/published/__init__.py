"""Actuators of published strategies."""
