"""Policies that several test files build: a plant in closed loop, a random language model."""

from entrostat.sim.policy.loop import simulate_policies


def simulate_policy(control, plant, steps, seed=0):
    """The trajectory of one plant alone."""
    return simulate_policies([control], [plant], steps, [seed])[0]


def qwen2(vocabulary, hidden, layers, **settings):
    """An untrained Qwen2 with four heads that share two keys; other settings of its configuration as given."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        **settings,
    )
    return Qwen2ForCausalLM(config)
