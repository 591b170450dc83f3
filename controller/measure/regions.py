"""The four entropy-sensitive regions, told apart by surprisal against entropy (arXiv 2602.09782, section 3).

| region | token                  | advantage | effect on entropy |
|--------|------------------------|-----------|-------------------|
| E1     | expected: -ln p <= H   | A > 0     | falls             |
| E2     | surprising: -ln p > H  | A > 0     | rises             |
| E3     | expected               | A < 0     | rises             |
| E4     | surprising             | A < 0     | falls             |
"""

import torch
from torch import Tensor


def region_of(advantages: Tensor, logprob: Tensor, entropy: Tensor) -> Tensor:
    """Index 0..3 (E1..E4) of each token, same shape as the inputs; tokens with A = 0 come out as E3 or E4."""
    surprising = (-logprob > entropy).long()
    return torch.where(advantages > 0, surprising, surprising + 2)
