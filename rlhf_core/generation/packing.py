"""What must be computed of right-padded rows under causal attention, each thing once.

A state depends on the tokens up to its own and on nothing else. So nothing behind a row's last asked-for place matters,
padding least of all; and rows that begin alike (answers to one prompt) share the states of their beginning.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

WORTH = 0.9  # of all places; above, gathering and scattering costs what it saves


@dataclass(frozen=True)
class Packing:
    """Places are those of the flattened rows, B L in all; N of them are computed.

    fresh  (N,) int64, the places that are computed, in order
    found  (B L,) int64, which of the N stands for each place (any, where nothing is asked for)
    again  (M,) int64, the places that another row's computation stands for
    """

    fresh: Tensor
    found: Tensor
    again: Tensor

    def spread(self, packed: Tensor) -> Tensor:
        """(N, width) -> (B L, width)."""
        return packed.index_select(0, self.found)

    def gather(self, places: Tensor) -> Tensor:
        """(B L, width) -> (N, width)."""
        return places.index_select(0, self.fresh)

    def gather_sum(self, places: Tensor) -> Tensor:
        """The gradient of `spread`: (B L, width), 0 where nothing is asked for -> (N, width)."""
        packed = self.gather(places)
        if len(self.again):
            packed.index_add_(0, self.found[self.again], places.index_select(0, self.again))
        return packed


def pack(input_ids: Tensor, select: Tensor) -> Packing | None:
    """input_ids (B, L) right-padded, select (B, L) bool, the places that are asked for; None where packing saves too little.

    Only a row and the one before it are compared: whoever makes a batch puts the answers to a prompt together.
    """
    needed = select.flip(1).cumsum(1).flip(1) > 0
    fresh = needed.clone()
    alike = (input_ids[1:] == input_ids[:-1]) & needed[1:] & needed[:-1]
    fresh[1:] &= ~alike.cumprod(1).bool()
    computed = int(fresh.sum())
    if not computed or computed > WORTH * fresh.numel():
        return None
    numbers = fresh.reshape(-1).cumsum(0).sub_(1).view(fresh.shape).masked_fill(~fresh, 0)
    found = numbers.cummax(0).values.reshape(-1)  # numbers grow from row to row: the last row above that computes it
    return Packing(_places(fresh), found, _places(needed & ~fresh))


def steady(places: Tensor) -> Tensor:
    """places (M,) made an eighth longer at most, by the last one again, so that few lengths occur: on CPUs torch compiles a kernel
    for every new shape of a bf16 product, milliseconds each and half a megabyte that is never given back."""
    count = len(places)
    step = max(64, 1 << max(count.bit_length() - 4, 0))
    return torch.cat([places, places[-1:].expand(-count % step)])


def _places(mask: Tensor) -> Tensor:
    return torch.nonzero(mask.reshape(-1)).squeeze(1)
