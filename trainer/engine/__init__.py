"""The DeepSpeed engine, its settings, its checkpoints, and the ranks around it."""
