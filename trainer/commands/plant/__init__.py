"""The commands of the plant, which train nothing: from logs to a plant, from a plant to gains and to a run foreseen."""
