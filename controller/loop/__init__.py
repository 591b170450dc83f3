"""The loop behind the controller object: its configuration, its cycle, its state, its warnings."""
