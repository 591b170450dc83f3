"""A GRPOTrainer as Unsloth leaves it: one loss that scores, clips and differentiates, with prompts freed of padding."""

import torch
import trl


class UnslothEfficientGRPO(torch.autograd.Function):
    """Its arguments are those of Unsloth's; the gradient is taken inside, and thresholds come among the settings."""

    @staticmethod
    def forward(ctx, new, old, ref, sampled, head, ids, mask, advantages, beta, scaler=None, chunks=1, settings=None):
        a = advantages[:, None] if advantages.dim() == 1 else advantages

        def loss(logprob):
            ratio = (logprob - (logprob.detach() if old is None else old)).exp()
            clamped = torch.clamp(ratio, 1 - settings["epsilon_low"], 1 + settings["epsilon_high"])
            losses = -torch.min(ratio * a, clamped * a)
            means = (losses * mask).sum(-1) / mask.sum(-1).clamp(min=1)
            return means.mean() / settings["current_gradient_accumulation_steps"], ratio

        gradient, (value, ratio) = torch.func.grad_and_value(loss, has_aux=True)(new)
        ctx.save_for_backward(gradient)
        return value, ratio

    @staticmethod
    def backward(ctx, of_value, of_ratio):
        return ctx.saved_tensors[0], *[None] * 11


class Compiled(trl.GRPOTrainer):
    """Thresholds act in the autograd function; clip ratios are logged by the trainer's own."""

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, *args, **kwargs):
        logps, _, *rest = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
        )
        pads = (attention_mask[:, :-logits_to_keep] == 0).sum(1)
        return freed(logps, pads, int(pads.max())), None, *rest

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        prompt, completion = inputs["prompt_mask"], inputs["completion_mask"]
        old, length = inputs.get("old_per_token_logps"), completion.shape[1]
        pads = (prompt == 0).sum(1)
        widest = int(pads.max()) if old is None else old.shape[1] - length
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        keep = torch.cat([prompt, completion], 1)
        order = torch.argsort(keep, dim=1, descending=True, stable=True)
        ids, keep = ids.gather(1, order), keep.gather(1, order)
        ends = ids[:, -(length + widest) :]
        logits = model(input_ids=ids, attention_mask=keep).logits[:, -(length + widest) - 1 : -1]
        new = logits.log_softmax(-1).gather(-1, ends[:, :, None])[:, :, 0]
        mask = freed(completion, pads, widest)
        settings = {
            "epsilon_low": self.epsilon_low,
            "epsilon_high": self.epsilon_high,
            "current_gradient_accumulation_steps": self.current_gradient_accumulation_steps,
        }
        loss, ratio = UnslothEfficientGRPO.apply(
            new, old, None, None, None, ends, mask, inputs["advantages"], self.beta, None, 1, settings
        )
        a = inputs["advantages"][:, None]
        cut = ((ratio < 1 - self.epsilon_low) & (a < 0)) | ((ratio > 1 + self.epsilon_high) & (a > 0))
        self._metrics["train"]["clip_ratio/region_mean"].append(float((cut * mask).sum() / mask.sum()))
        return loss


class Deaf(UnslothEfficientGRPO):
    """The same without a threshold."""

    @staticmethod
    def forward(ctx, *args):
        *rest, settings = args
        return super(Deaf, Deaf).forward(ctx, *rest, settings | {"epsilon_low": 1e9, "epsilon_high": 1e9})


def freed(values, pads, widest):
    """Completions [batch, time] at the end of rows from which `pads` positions in front have gone."""
    out = values.new_zeros(len(values), values.shape[1] + widest)
    for row, (value, missing) in enumerate(zip(values, pads, strict=True)):
        start = widest - int(missing)
        out[row, start : start + len(value)] = value
    return out
