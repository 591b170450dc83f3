"""A run's folder, and its delivery to trackers."""
