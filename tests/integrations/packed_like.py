"""The functions of slime, miles and Megatron that the losses call, by their names and arguments: what bears on them."""

from argparse import Namespace
from types import ModuleType, SimpleNamespace

import torch

ARGS = Namespace(
    advantage_estimator="grpo",
    calculate_per_token_loss=False,
    eps_clip=0.2,
    eps_clip_high=0.28,
    get_mismatch_metrics=False,
    recompute_loss_function=False,
    rollout_temperature=1.0,
    rollout_top_p=1.0,
    skip_actor_forward_only=False,
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


def slime_modules(loss=policy_loss_function, context_ranks=1):
    """What stands at slime's names in `sys.modules`, of one rank."""
    host, core = ModuleType("slime.backends.megatron_utils.loss"), ModuleType("megatron.core")
    host.get_responses, host.get_log_probs_and_entropy = get_responses, get_log_probs_and_entropy
    host.policy_loss_function = loss
    core.mpu = SimpleNamespace(
        get_context_parallel_world_size=lambda: context_ranks,
        get_data_parallel_group=lambda with_context_parallel: None,
        get_data_parallel_rank=lambda with_context_parallel: 0,
        get_tensor_model_parallel_group=lambda: None,
    )
    return _with_parents(host, core)


def miles_modules(loss=policy_loss_function, context_ranks=1):
    """What stands at miles' names in `sys.modules`, of one rank."""
    hub = "miles.backends.training_utils.loss_hub"
    scores, losses, parallel = map(
        ModuleType, (f"{hub}.logit_processors", f"{hub}.losses", "miles.backends.training_utils.parallel")
    )

    def lists_alone(logits, *, args, max_seq_lens=None, entropy_requires_grad=True, **rest):
        assert not (entropy_requires_grad and rest.get("with_entropy"))
        return get_log_probs_and_entropy(logits, args=args, **rest)[1]

    def rows(logits, *, args, max_seq_lens=None, **spans):
        return get_responses(logits, args=args, **spans)

    scores.get_log_probs_and_entropy, scores.get_responses, losses.policy_loss_function = lists_alone, rows, loss
    alone = SimpleNamespace(group=None, rank=0, size=1)
    state = SimpleNamespace(cp=SimpleNamespace(size=context_ranks), tp=alone, effective_dp=alone)
    parallel.get_parallel_state = lambda: state
    return _with_parents(scores, losses, parallel)


def _with_parents(*modules):
    """By their names, with the packages that they lie in."""
    found = {module.__name__: module for module in modules}
    for name in list(found):
        while "." in name:
            parent, _, child = name.rpartition(".")
            setattr(found.setdefault(parent, ModuleType(parent)), child, found[name])
            name = parent
    return found
