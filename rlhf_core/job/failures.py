"""What a machine lacks or runs out of, said in plain words: a card, memory of a card or of the host, room on a disk."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from rlhf_core.job.errors import BadInput, TrainingFailed
from rlhf_core.settings import OnPolicyStage, TrainingStage

_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")  # torch's allocators
_DISK = ("no space left", "file write failed", "failed writing file", "unexpected pos")  # safetensors; torch's archives


def check_machine(settings: TrainingStage, has_card: bool) -> None:
    """BadInput for what needs a GPU where there is none, or a package that is absent. (Offloading needs none: on CPUs it
    changes nothing, and lets a recipe for cards be tried.)"""
    if settings.optimizer.kind == "lamb" and not has_card:
        raise BadInput("optimizer.kind: DeepSpeed's lamb runs on GPUs alone; use adamw here")
    if settings.launch.attention == "flash_attention_2":
        if not has_card:
            raise BadInput("launch.attention: flash_attention_2 runs on GPUs alone; use sdpa here")
        if not any(map(find_spec, ("flash_attn", "kernels"))):
            raise BadInput("launch.attention: flash_attention_2 needs one of the packages flash-attn and kernels; or use sdpa")


@contextmanager
def explained(settings: TrainingStage, folders: list[Path]) -> Iterator[None]:
    """Raise TrainingFailed with the way out where memory or disk ran out inside; `folders` are where the job writes."""
    try:
        yield
    except (BadInput, TrainingFailed):
        raise
    except Exception as error:  # safetensors' has no better base
        if is_out_of_memory(error):
            raise TrainingFailed(f"out of memory ({_first_line(error)}); {_less_memory(settings)}") from error
        if is_full_disk(error):
            left = ", ".join(f"{folder}: {_free(folder)}" for folder in dict.fromkeys(folders))
            raise TrainingFailed(
                f"the disk is full ({_first_line(error)}; free: {left}); the last whole checkpoint is kept: make room, or "
                "choose another store, and start the run again. A larger checkpoint_steps writes less often, not less"
            ) from error
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """torch says it as OutOfMemoryError on cards and as a plain RuntimeError on the host."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(words in text for words in _MEMORY))


def is_full_disk(error: BaseException) -> bool:
    """Also through the writers of torch and safetensors, which keep no errno."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # the last: a limit of the shell's
        return True
    return any(words in str(error).lower() for words in _DISK)


def _less_memory(settings: TrainingStage) -> str:
    launch, asked = settings.launch, []
    micro = launch.micro_batch_size or -(-settings.batch_size // launch.ranks)
    if micro > 1:
        asked.append(f"launch.micro_batch_size below {micro} (the result stays the same)")
    if not launch.gradient_checkpointing:
        asked.append("launch.gradient_checkpointing: true")
    if launch.zero_stage < 3:
        asked.append("a higher launch.zero_stage, with several cards")
    if launch.offload == "none":
        asked.append("launch.offload")
    asked.append("optimizer.lora" if settings.optimizer.lora is None else "a smaller optimizer.lora.rank")
    length = "max_new_tokens and max_prompt_length" if isinstance(settings, OnPolicyStage) else "max_length"
    return f"try {', '.join(asked)}, or a smaller {length}; `python -m rlhf_core.plan RECIPE` says what a stage needs"


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]


def _free(folder: Path) -> str:
    while not folder.exists():
        folder = folder.parent
    return f"{shutil.disk_usage(folder).free / 2**30:.1f} GiB"
