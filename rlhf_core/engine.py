"""The one door to DeepSpeed: processes, and a model with its optimizer.

DeepSpeed is imported late (1 to 2 s) and without its shared-memory collective for CPUs, which is compiled at the
first start (20 s) and serves inference alone.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_core.job.errors import BadInput
from rlhf_core.models.lora import add_lora, has_lora, merged
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

    def same(self, data: str) -> str:
        """What tells this rank's data from others; BadInput where another rank has others: they would wait for each other, or learn
        from different examples as one batch."""
        if len(set(self.gather(data))) > 1:
            raise BadInput("the ranks see different data: they must be the same on all nodes, and stay as they are while they are read")
        return data

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
        _keep_freed_memory()
    deepspeed = _deepspeed()
    if cuda:
        torch.cuda.set_device(local_rank)
    # One rank may tokenize a corpus for hours while the others wait: as long as a job may be silent.
    timeout = timedelta(seconds=max(launch.silence_seconds, _COLLECTIVE_SECONDS))
    deepspeed.init_distributed(dist_backend="nccl" if cuda else "gloo", verbose=False, timeout=timeout)
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    return Ranks(int(os.environ["RANK"]), world, device)


def stop() -> None:
    """Leave the process group, so that the process ends without a warning."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def split_on_loading(launch: Launch, precision: str) -> Iterator[None]:
    """Under ZeRO-3, models that transformers reads inside are split as they are made: beside its share a rank holds one layer
    at a time, and rank 0 alone reads the file. Nothing changes for other stages of ZeRO. All ranks must read the same."""
    if launch.zero_stage < 3:
        yield
        return
    integration: Any = importlib.import_module("transformers.integrations.deepspeed")
    seen = integration.HfDeepSpeedConfig(_config(launch, precision, 1, 0.0))  # while it lives, transformers knows
    try:
        yield
    finally:
        del seen
        integration.unset_hf_deepspeed_config()


def split_frozen(read: Callable[[], nn.Module], launch: Launch, precision: str, device: torch.device) -> Any:
    """A model that is asked and never trained, its weights split over the ranks from its reading on, as ZeRO-3 splits those of
    trained ones. `read` loads it by transformers. All ranks must ask it equally often."""
    with split_on_loading(launch, precision):
        module = read()
    module.to(device).eval().requires_grad_(False)
    config = _config(launch, precision, 1, 0.0)
    engine, *_ = _deepspeed().initialize(model=module, config=config, dist_init_required=False)
    return engine


def whole(parameters: list[nn.Parameter]) -> Any:
    """A context in which parameters that are split over the ranks are whole; rank 0's changes are kept."""
    split = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    return _deepspeed().zero.GatheredParameters(split, modifier_rank=0) if split else nullcontext()


def shape_of(parameter: nn.Parameter) -> torch.Size:
    """Of the whole parameter, also where it is split."""
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape


class Engine:
    """A model, its optimizer, and what DeepSpeed does with them: ZeRO, accumulation, clipping, mixed precision.

    `backward` expects the loss of one micro-batch such that the *sum* over ranks and micro-batches is the loss of
    the whole batch; DeepSpeed averages, so it is scaled up here. With `optimizer.lora` the model gets its adapters
    here, and gives its weights merged.
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
        self.ranks, self.accumulation, self.zero_stage = ranks, accumulation, launch.zero_stage
        self._optimizer, self._launch, self._precision = optimizer, launch, precision
        # Without ZeRO and in float32, DeepSpeed clips gradients but does not tell their norm.
        self._clips = launch.zero_stage == 0 and precision == "fp32"
        if launch.gradient_checkpointing:
            hugging_face: Any = module.model
            hugging_face.gradient_checkpointing_enable({"use_reentrant": False})
        if precision == "bf16" and ranks.device.type == "cpu" and launch.attention == "sdpa":
            # On CPUs torch's fused attention is slow backwards in bf16: 72 ms a layer against 11 (64 x 4 x 40 x 32).
            plain: Any = module.model
            plain.set_attn_implementation("eager")
        if optimizer.lora and not optimizer.lora.from_share:
            add_lora(module.model, optimizer.lora)
        self._begin(module)

    def begin_lora(self) -> None:
        """Freeze the weights as they are and train adapters from here on (`lora.from_share`)."""
        assert self._optimizer.lora
        if not has_lora(self.module.model):
            module = self.module
            self.engine.destroy()
            module.zero_grad(set_to_none=True)
            add_lora(module.model, self._optimizer.lora)
            self._begin(module)

    def _begin(self, module: nn.Module) -> None:
        deepspeed = _deepspeed()
        module.to(self.ranks.device).train()
        groups = parameter_groups(module, self._optimizer)
        self._rates = [group.pop("rate") for group in groups]
        optimizer = _make_optimizer(groups, self._optimizer, self._launch)
        clip = 0.0 if self._clips else self._optimizer.clip_grad_norm
        self.engine, *_ = deepspeed.initialize(
            model=module,
            optimizer=optimizer,
            config=_config(self._launch, self._precision, self.accumulation, clip),
            dist_init_required=False,
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
        for group, rate in zip(self.engine.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = learning_rate * rate
        norm = 0.0
        if self._clips:
            trained = [p for p in self.module.parameters() if p.requires_grad]
            norm = float(torch.nn.utils.clip_grad_norm_(trained, self._optimizer.clip_grad_norm))
        self.engine.step()
        return norm if self._clips else float(self.engine.get_global_grad_norm() or 0.0)

    def save(self, folder: Path) -> None:
        if self.ranks.is_main and has_lora(self.module.model):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _ADAPTERS).touch()
        self.engine.save_checkpoint(str(folder), tag="state", exclude_frozen_parameters=False)

    def load(self, folder: Path) -> None:
        """Raises whatever torch or DeepSpeed raise on a broken checkpoint."""
        if (folder / _ADAPTERS).exists():
            self.begin_lora()
        path, _ = self.engine.load_checkpoint(str(folder), tag="state")
        if path is None:
            raise OSError(f"DeepSpeed finds no checkpoint in {folder}")

    def full_state(self) -> dict[str, Tensor] | None:
        """Whole weights of the Hugging Face model inside, adapters merged, on rank 0 (None elsewhere); all ranks must
        call this."""
        inner = self.module.model
        if self.zero_stage < 3:
            return self._merged(dict(inner.state_dict())) if self.ranks.is_main else None
        with _deepspeed().zero.GatheredParameters(list(inner.parameters()), modifier_rank=None):
            if not self.ranks.is_main:
                return None
            copies: dict[int, Tensor] = {}  # tied weights stay one tensor, or they would be saved twice
            for value in inner.state_dict(keep_vars=True).values():
                copies.setdefault(id(value), value.detach().cpu().clone())
            return self._merged(
                {name: copies[id(value)] for name, value in inner.state_dict(keep_vars=True).items()}
            )

    def copy_to(self, plain: nn.Module) -> None:
        """Copy the whole weights, adapters merged, into a plain module of the same kind on every rank (generation)."""
        inner: Any = plain.model
        with _deepspeed().zero.GatheredParameters(list(self.module.parameters()), modifier_rank=None):
            inner.load_state_dict(self._merged(dict(self.module.model.state_dict())))

    def _merged(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return merged(state, self.module.model) if has_lora(self.module.model) else state


_ADAPTERS = "adapters"  # marks a checkpoint of a model that has them


def parameter_groups(module: nn.Module, settings: Optimizer) -> list[dict[str, Any]]:
    """Weight decay on matrices alone: not on norms, biases, embeddings and adapters, nor where `decays` is False. `rate` is a group's learning rate
    as a multiple of the optimizer's."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    lora_rate = settings.lora.learning_rate / settings.learning_rate if settings.lora else 1.0
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            adapter = ".lora_" in name
            plain = len(shape_of(parameter)) < 2 or id(parameter) in embeddings or adapter or not getattr(parameter, "decays", True)
            key = (0.0 if plain else settings.weight_decay, lora_rate if adapter else 1.0)
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": found, "weight_decay": decay, "rate": rate}
        for (decay, rate), found in sorted(groups.items(), key=lambda g: g[0], reverse=True)
    ]


def _make_optimizer(groups: list[dict[str, Any]], settings: Optimizer, launch: Launch) -> Any:
    options: dict[str, Any] = {"lr": settings.learning_rate, "betas": settings.betas, "eps": settings.eps}
    if settings.kind == "lamb":
        lamb = importlib.import_module("deepspeed.ops.lamb").FusedLamb
        return lamb(groups, **options)
    return torch.optim.AdamW(groups, fused=launch.offload == "none", **options)


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


def _keep_freed_memory() -> None:
    """Let glibc keep what tensors give back. By default it returns blocks of a few megabytes to the kernel, which hands
    them out again page by page, zeroed: 8 to 17% of the processor time of a PPO step at width 128. Peaks stay."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, 2**30)
        set_option(_M_TRIM_THRESHOLD, 2**31 - 1)


_COLLECTIVE_SECONDS = 600  # that a rank waits for the others at least; DeepSpeed's default
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


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
