"""Cost of the measurement: time and memory, on the CPU and on a GPU."""
