"""Pages of one person on loopback: the target designer, and the server behind it."""
