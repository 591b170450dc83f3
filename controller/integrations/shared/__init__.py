"""Rooms and files that several hosts share."""
