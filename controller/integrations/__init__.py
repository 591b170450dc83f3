"""The controller inside other people's trainers; each module imports its host, and nothing else does."""
