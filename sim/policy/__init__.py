"""The policy plant: tabular policies that are trained under control."""
