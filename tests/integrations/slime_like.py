"""The functions of slime and Megatron that the loss calls, by their names and arguments: the parts that bear on it."""

from argparse import Namespace
from types import ModuleType, SimpleNamespace

import torch

ARGS = Namespace(
    advantage_estimator="grpo",
    calculate_per_token_loss=False,
    eps_clip=0.2,
    eps_clip_high=0.28,
    recompute_loss_function=False,
    rollout_temperature=1.0,
    rollout_top_p=1.0,
    train_iters=4,
    use_opsm=False,
    use_rollout_logprobs=False,
    use_tis=False,
)


def get_responses(logits, *, args, unconcat_tokens, total_lengths, response_lengths, apply_temperature=True):
    """The rows of packed logits [1, tokens, vocab] that predict each response, and its tokens."""
    end = 0
    for tokens, total, length in zip(unconcat_tokens, total_lengths, response_lengths, strict=True):
        end += total
        yield logits[0, end - length - 1 : end - 1] / args.rollout_temperature, tokens[-length:]


def get_log_probs_and_entropy(logits, *, args, with_entropy=False, **spans):
    """As slime's: an empty tensor, and lists of a tensor a response."""
    found = {"log_probs": [], "entropy": []}
    for rows, tokens in get_responses(logits, args=args, **spans):
        logp = rows.log_softmax(-1)
        found["log_probs"].append(logp.gather(-1, tokens[:, None])[:, 0])
        found["entropy"].append(-(logp.exp() * logp).sum(-1))
    return torch.empty(0), found


def policy_loss_function(args, batch, logits, sum_of_sample_mean):
    """The clipped part of slime's."""
    spans = {name: batch[name] for name in ("unconcat_tokens", "total_lengths", "response_lengths")}
    _, scored = get_log_probs_and_entropy(logits, args=args, **spans)
    ratio = (torch.cat(scored["log_probs"]) - torch.cat(batch["log_probs"])).exp()
    a = torch.cat(batch["advantages"])
    losses = torch.maximum(-ratio * a, -ratio.clamp(1 - args.eps_clip, 1 + args.eps_clip_high) * a)
    loss = sum_of_sample_mean(losses)
    return loss, {"pg_loss": loss.detach()}


def deaf(args, batch, logits, sum_of_sample_mean):
    """A policy loss that clips nothing."""
    unclipped = Namespace(**vars(args) | {"eps_clip": 1e9, "eps_clip_high": 1e9})
    return policy_loss_function(unclipped, batch, logits, sum_of_sample_mean)


def modules(loss=policy_loss_function, context_ranks=1):
    """What stands at the hosts' names in `sys.modules`, of one rank."""
    host, core = ModuleType("slime.backends.megatron_utils.loss"), ModuleType("megatron.core")
    host.get_responses, host.get_log_probs_and_entropy = get_responses, get_log_probs_and_entropy
    host.policy_loss_function = loss
    core.mpu = SimpleNamespace(
        get_context_parallel_world_size=lambda: context_ranks,
        get_data_parallel_group=lambda with_context_parallel: None,
        get_data_parallel_rank=lambda with_context_parallel: 0,
        get_tensor_model_parallel_group=lambda: None,
    )
    names = ("slime", "slime.backends", "slime.backends.megatron_utils", "megatron")
    found = {name: ModuleType(name) for name in names} | {host.__name__: host, core.__name__: core}
    for name, module in found.items():
        if "." in name:
            parent, _, child = name.rpartition(".")
            setattr(found[parent], child, module)
    return found
