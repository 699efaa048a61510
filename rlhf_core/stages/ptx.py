"""PPO-ptx: the pretraining loss beside the policy's, so that what the corpus taught is not forgotten.

Ouyang et al. 2022, eq. 2. Iterations are aligned: every update of a rollout has as many blocks of the corpus as it
has answers, and the blocks of an iteration follow from its number alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rlhf_core.dataset.batches import Order
from rlhf_core.dataset.blocks import pack
from rlhf_core.dataset.token_store import Documents
from rlhf_core.job.errors import BadInput


class Ptx:
    """Blocks of `length` tokens of a corpus, `rows` of them an iteration over all ranks."""

    def __init__(self, documents: Documents, end_id: int, length: int, rows: int, seed: int, device: torch.device) -> None:
        self.blocks, self.device = pack(documents, end_id, length, seed), device
        if not len(self.blocks):
            raise BadInput("ptx_data: the corpus has no document; name another, or leave ptx_coef and ptx_data out")
        self.order, self.rows = Order(len(self.blocks), rows, seed), rows

    def loss(
        self,
        likelihood: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]],
        step: int,
        own: Callable[[list[int]], list[int]],
        rows: slice,
        minibatches: int,
    ) -> Tensor:
        """This micro-batch's part of the mean loss of a minibatch: `rows` are those of the rollout on this rank, `own`
        picks a rank's part of a batch."""
        blocks = own(self.order.batch(step))[rows]
        input_ids = self.blocks[blocks].to(self.device)
        select = torch.ones_like(input_ids, dtype=torch.bool)
        select[:, -1] = False
        logprobs, _ = likelihood(input_ids, select, input_ids[:, 1:].reshape(-1), 1.0)
        return -logprobs.sum() / (self.rows // minibatches * (self.blocks.width - 1))

