"""The one door to DeepSpeed: processes, and a model with its optimizer.

DeepSpeed is imported late (1 to 2 s) and without its shared-memory collective for CPUs, which is compiled at the
first start (20 s) and serves inference alone.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_core.settings import Launch, Optimizer


@dataclass(frozen=True)
class Ranks:
    """The processes of this job. Every method that talks to the others must be called by all of them."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def reduce(self, tensor: Tensor) -> Tensor:
        """Sum over all ranks (a new tensor)."""
        if self.world == 1:
            return tensor
        total = tensor.clone()
        torch.distributed.all_reduce(total)
        return total

    def sums(self, values: dict[str, Any]) -> dict[str, float]:
        """Numbers or scalar tensors, each summed over all ranks, in one message."""
        packed = torch.stack(
            [torch.as_tensor(value, dtype=torch.float64, device="cpu").detach() for value in values.values()]
        )
        return dict(zip(values, self.reduce(packed.to(self.device)).tolist(), strict=True))

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in rank order."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        return values

    def from_main(self, value: Any) -> Any:
        """Rank 0's value."""
        if self.world == 1:
            return value
        values = [value]
        torch.distributed.broadcast_object_list(values, src=0)
        return values[0]

    def barrier(self) -> None:
        if self.world > 1:
            torch.distributed.barrier()


def start(launch: Launch) -> Ranks:
    """Join the processes of this job (alone where no launcher started it) and choose the device."""
    cuda = torch.cuda.is_available()
    if not cuda:
        os.environ["DS_ACCELERATOR"] = "cpu"
    if "RANK" not in os.environ:
        os.environ.update(
            RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=_free_port()
        )
    local_rank, world = int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"])
    if not cuda:
        # LOCAL_SIZE is what DeepSpeed's launcher calls it.
        local_world = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or world)
        torch.set_num_threads(launch.threads or max(1, (len(os.sched_getaffinity(0)) // local_world)))
    deepspeed = _deepspeed()
    if cuda:
        torch.cuda.set_device(local_rank)
    deepspeed.init_distributed(dist_backend="nccl" if cuda else "gloo", verbose=False)
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    return Ranks(int(os.environ["RANK"]), world, device)


def stop() -> None:
    """Leave the process group, so that the process ends without a warning."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Engine:
    """A model, its AdamW, and what DeepSpeed does with them: ZeRO, accumulation, clipping, mixed precision.

    `backward` expects the loss of one micro-batch such that the *sum* over ranks and micro-batches is the loss of
    the whole batch; DeepSpeed averages, so it is scaled up here.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        launch: Launch,
        precision: str,
        accumulation: int,
        ranks: Ranks,
    ) -> None:
        deepspeed = _deepspeed()
        self.ranks, self.accumulation, self.zero_stage = ranks, accumulation, launch.zero_stage
        # Without ZeRO and in float32, DeepSpeed clips gradients but does not tell their norm.
        self._clips, self._clip_grad_norm = (
            launch.zero_stage == 0 and precision == "fp32",
            optimizer.clip_grad_norm,
        )
        if launch.gradient_checkpointing:
            hugging_face: Any = module.model
            hugging_face.gradient_checkpointing_enable({"use_reentrant": False})
        module.to(ranks.device).train()
        groups = parameter_groups(module, optimizer.weight_decay)
        adamw = torch.optim.AdamW(
            groups,
            lr=optimizer.learning_rate,
            betas=optimizer.betas,
            eps=optimizer.eps,
            fused=launch.offload == "none",
        )
        config = _config(launch, precision, accumulation, 0.0 if self._clips else optimizer.clip_grad_norm)
        self.engine, *_ = deepspeed.initialize(
            model=module, optimizer=adamw, config=config, dist_init_required=False
        )

    def __call__(self, *args: Any) -> Any:
        return self.engine(*args)

    @property
    def module(self) -> Any:
        return self.engine.module

    def backward(self, loss: Tensor) -> None:
        self.engine.backward(loss * (self.ranks.world * self.accumulation))
        self._micro_step()

    def _micro_step(self) -> None:
        if not self.engine.is_gradient_accumulation_boundary():
            self.engine.step()

    def step(self, learning_rate: float) -> float:
        """Update the weights with the accumulated gradients; returns the gradient's norm before clipping."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        norm = 0.0
        if self._clips:
            norm = float(torch.nn.utils.clip_grad_norm_(self.module.parameters(), self._clip_grad_norm))
        self.engine.step()
        return norm if self._clips else float(self.engine.get_global_grad_norm() or 0.0)

    def save(self, folder: Path) -> None:
        self.engine.save_checkpoint(str(folder), tag="state", exclude_frozen_parameters=False)

    def load(self, folder: Path) -> None:
        """Raises whatever torch or DeepSpeed raise on a broken checkpoint."""
        path, _ = self.engine.load_checkpoint(str(folder), tag="state")
        if path is None:
            raise OSError(f"DeepSpeed finds no checkpoint in {folder}")

    def full_state(self) -> dict[str, Tensor] | None:
        """Whole weights of the Hugging Face model inside, on rank 0 (None elsewhere); all ranks must call this."""
        inner = self.module.model
        if self.zero_stage < 3:
            return dict(inner.state_dict()) if self.ranks.is_main else None
        with _deepspeed().zero.GatheredParameters(list(inner.parameters()), modifier_rank=None):
            if not self.ranks.is_main:
                return None
            copies: dict[int, Tensor] = {}  # tied weights stay one tensor, or they would be saved twice
            for value in inner.state_dict(keep_vars=True).values():
                copies.setdefault(id(value), value.detach().cpu().clone())
            return {name: copies[id(value)] for name, value in inner.state_dict(keep_vars=True).items()}

    def copy_to(self, plain: nn.Module) -> None:
        """Copy the whole weights into a plain module of the same kind on every rank (generation under ZeRO-3)."""
        with _deepspeed().zero.GatheredParameters(list(self.module.parameters()), modifier_rank=None):
            plain.load_state_dict(self.module.state_dict())


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices alone: not on norms, biases and embeddings."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    trained: Iterable[nn.Parameter] = [p for p in module.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim >= 2 and id(p) not in embeddings]
    others = [p for p in trained if p.ndim < 2 or id(p) in embeddings]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _config(launch: Launch, precision: str, accumulation: int, clip_grad_norm: float) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": launch.zero_stage}
    if launch.offload != "none" and launch.zero_stage:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        if launch.offload == "all" and launch.zero_stage == 3:
            zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        # The true size of a micro-batch varies; the loss is normalised by what it holds, so 1 stands for "one".
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": clip_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": precision == "bf16"},
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }


def _deepspeed() -> Any:
    import deepspeed

    # (deepspeed.comm.torch as an attribute is torch itself.)
    vars(importlib.import_module("deepspeed.comm.torch"))["build_shm_op"] = lambda: None
    deepspeed.utils.logging.logger.setLevel(logging.WARNING)
    return deepspeed


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
