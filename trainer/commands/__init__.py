"""The commands of the `entrostat` line that are not the training run itself, one a file."""
