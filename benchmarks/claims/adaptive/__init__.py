"""The adaptive law beside the tuned PID."""
