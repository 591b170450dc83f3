"""Tuning: gains for a target curve, and the margins that they keep."""
