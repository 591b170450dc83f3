"""Token statistics of a policy as it comes: a model, hidden states and a head, distributions, split or no logits."""
