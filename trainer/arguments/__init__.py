"""The arguments of every command, a file each; what a command does is imported when it is run, so that help is fast."""
