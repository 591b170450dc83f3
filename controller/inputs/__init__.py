"""Input from people and files: configuration, its errors, and what a file may be."""
