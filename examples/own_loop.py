"""The library in a plain PyTorch loop: a softmax policy per prompt, rewards for answers near the prompt's number.

    python examples/own_loop.py

prints the entropy of two runs: under control, and with static clipping.
"""

import sys
from pathlib import Path

import torch

from entrostat import ControlConfig, EntropyController, policy_loss, token_statistics
from entrostat.advantages import group_advantages

PROMPTS, VOCAB, RESPONSES = 24, 16, 8
STATIC = ControlConfig.model_validate({"law": {"type": "manual"}, "actuator": {"type": "static"}})


def rollout(policy: torch.Tensor, generator: torch.Generator):
    """Sampled answers to every prompt, their logits and group-normalised advantages."""
    prompts = torch.arange(PROMPTS).repeat_interleave(RESPONSES)
    logits = policy[prompts].detach()[:, None]  # [batch, time = 1, vocab]
    actions = torch.multinomial(logits[:, 0].softmax(-1), 1, generator=generator)
    rewards = 1 - (actions[:, 0] - prompts % VOCAB).abs() / VOCAB
    advantages = group_advantages(rewards, RESPONSES)
    return prompts, logits, actions, advantages, torch.ones_like(actions, dtype=torch.bool)


def train(control: EntropyController, steps: int = 150, seed: int = 5) -> list[float]:
    """The measured entropy of every step, nats."""
    generator = torch.Generator().manual_seed(seed)
    policy = (1.5 * torch.randn(PROMPTS, VOCAB, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([policy], lr=0.02)
    entropies = []
    for _ in range(steps):
        prompts, logits, actions, advantages, mask = rollout(policy, generator)
        tokens = token_statistics(logits, actions, temperature=1.0)
        decision = control.step(tokens, advantages, mask, groups=prompts)
        for rows in torch.randperm(len(prompts), generator=generator).chunk(4):
            logits = policy[prompts[rows]][:, None]
            now = token_statistics(logits, actions[rows], temperature=1.0, entropy_gradient=True)
            decision = control.refine(now, tokens[rows], advantages[rows], mask[rows])  # for the adaptive law
            loss, _ = policy_loss(now.logprob, tokens[rows], advantages[rows], mask[rows], decision, now=now)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        entropies.append(decision.measurement)
    return entropies


if __name__ == "__main__":
    controlled = train(EntropyController.from_yaml(Path(__file__).with_name("control.yaml")))
    static = train(EntropyController(STATIC))
    for step in range(0, len(static), 10):
        sys.stdout.write(f"step {step:3d}  controlled {controlled[step]:.3f}  static {static[step]:.3f} nats\n")
