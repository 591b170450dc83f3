"""Rollouts with vLLM: in process, in a second process, or from a server."""
