"""Control beyond language models: PPO in Stable-Baselines3."""
