"""Long tests by hand: kills, outages, hostile inputs."""
