"""MLflow as a tracker: the run of a folder, and runs read back."""
