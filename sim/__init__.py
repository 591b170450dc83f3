"""entrostat's simulator: plants, and the trainer's own controller in closed loop with them."""
