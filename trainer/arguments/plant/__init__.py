"""The arguments of the commands of the plant."""
