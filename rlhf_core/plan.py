"""What every stage of a recipe needs in memory, before anything starts: `python -m rlhf_core.plan RECIPE`.

Per card: weights, gradients, optimizer states, activations, the rollout's cache, other models, DeepSpeed's buffers
(Rajbhandari et al. 2020, section 3; Korthikanti et al. 2022, section 4). Exit status 0 where all stages fit, 1 where one
does not, 2 where the recipe cannot be used. On CPUs a card is a rank's share of the machine's memory.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psutil
import yaml
from pydantic import TypeAdapter, ValidationError

from rlhf_core.job.errors import BadInput
from rlhf_core.models import shapes
from rlhf_core.models.shapes import Shape, in_words
from rlhf_core.settings import (
    AnyStage,
    DpoStage,
    Launch,
    OnPolicyStage,
    PpoStage,
    PretrainStage,
    RewardStage,
    SftStage,
    TokenizerSettings,
    TrainingStage,
)

GIGA = 1e9
BYTES = {"fp32": 4, "bf16": 2}
BUCKET = 5e8  # numbers; DeepSpeed's reduce_bucket_size and allgather_bucket_size
LIVE = 1e9  # numbers; DeepSpeed's stage3_max_live_parameters
FREE_SHARE = 0.9  # of a card; the rest is the CUDA context and fragmentation
CPU_RUNTIME = 0.44e9  # bytes of a process that has imported torch 2.13, transformers 5 and DeepSpeed, and holds no tensor yet
CPU_HEAP = 1.5  # what glibc's heap grows to, over what tensors hold in it: 1.4 to 2.0 (tests/rlhf_core/test_plan.py)


@dataclass(frozen=True)
class Need:
    """Bytes on one card."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    cache: float = 0.0
    other_models: float = 0.0
    buffers: float = 0.0
    loading: float = (
        0.0  # before training, and given back: the whole model lies on the card before it is split
    )

    @property
    def total(self) -> float:
        parts = sum(getattr(self, field.name) for field in fields(self) if field.name != "loading")
        return float(max(parts, self.loading))


@dataclass(frozen=True)
class Room:
    """Where a rank's tensors lie: a card, or its share of a machine's memory, which its process takes more of."""

    bytes: float
    is_card: bool = True

    def taken(self, need: Need) -> float:
        """Bytes that the need takes here: of a card what tensors hold, of a machine all that the process holds."""
        return need.total if self.is_card else CPU_RUNTIME + CPU_HEAP * need.total

    def holds(self, need: Need) -> bool:
        return self.taken(need) <= FREE_SHARE * self.bytes


def need(stage: TrainingStage, shape: Shape, others: Mapping[str, Shape], ranks: int) -> Need:
    """`others`: the shapes of the stage's further models by role (reward_model, reward_1, ..., value_init)."""
    size = BYTES[stage.precision]
    engines = [_engine(stage, shape, ranks)]
    if isinstance(stage, PpoStage) and stage.value_backbone == "separate":
        judges = [other for role, other in others.items() if role.startswith("reward")]
        engines.append(_engine(stage, others.get("value_init") or next(iter(judges), shape), ranks))
    lora, zero = stage.optimizer.lora, stage.launch.zero_stage
    share = 1 / ranks if zero == 3 else 1.0  # frozen models are split over the ranks as trained ones are
    frozen: float = sum(other.parameters for role, other in others.items() if role.startswith("reward")) * size * share
    cache = 0.0
    if isinstance(stage, OnPolicyStage):
        shared = (
            lora is not None and lora.only and zero < 3
        )  # the reference is the policy without its adapters
        references = 0.0 if shared else share
        frozen += shape.parameters * size * (references + (zero == 3 or lora is not None))
        cache = _rollout(stage, shape, ranks)
        frozen += shape.parameters * 4 * (getattr(stage, "ema_decay", None) is not None)
    return Need(
        weights=sum(engine.weights for engine in engines),
        gradients=sum(engine.gradients for engine in engines),
        optimizer=sum(engine.optimizer for engine in engines),
        activations=(sum if _keeps_both(stage, ranks) else max)(engine.activations for engine in engines),
        cache=cache,
        other_models=frozen,
        buffers=max(engine.buffers for engine in engines),
        loading=0.0 if _is_split_on_loading(stage) else shape.parameters * size + frozen,
    )


def _keeps_both(stage: TrainingStage, ranks: int) -> bool:
    """Whether the first update's passes of policy and value model are made before either learns (PolicyGradient._live)."""
    if not isinstance(stage, PpoStage) or stage.minibatches > 1 or stage.ppo_epochs == 1:
        return False
    return (stage.launch.micro_batch_size or stage.batch_size) * ranks >= stage.batch_size


def _is_split_on_loading(stage: TrainingStage) -> bool:
    """Whether no rank ever holds the whole model (rlhf_core.engine.split_on_loading). Fresh models are made whole, and who
    writes answers of its own holds a whole model for it."""
    rankings = isinstance(stage, DpoStage) and stage.pairs_from != "samples"
    supervised = rankings or isinstance(stage, (PretrainStage, SftStage, RewardStage))
    return supervised and stage.launch.zero_stage == 3 and stage.init is not None


def _engine(stage: TrainingStage, shape: Shape, ranks: int) -> Need:
    """A trained model: mixed precision keeps a copy of the trained weights in float32, Adam two moments of each."""
    size, launch = BYTES[stage.precision], stage.launch
    trained = shape.trained(stage.optimizer.lora)
    adapters = trained if stage.optimizer.lora else 0
    split = [
        ranks if launch.zero_stage >= least else 1 for least in (3, 2, 1)
    ]  # weights, gradients, optimizer
    weights = (shape.parameters + adapters) * size / split[0]
    states = trained * (8 if stage.precision == "fp32" else 12) / split[2]
    # In bf16 without ZeRO 2, DeepSpeed adds gradients up in float32 beside those of autograd.
    gradients = (
        trained * (size + (4 if stage.precision == "bf16" and launch.zero_stage < 2 else 0)) / split[1]
    )
    if launch.zero_stage == 3:
        buffers = min(LIVE, shape.parameters) * size
    else:
        buffers = 2 * min(BUCKET, trained) * size if launch.zero_stage else 0.0
    return Need(
        weights=0.0 if launch.offload == "all" else weights,
        gradients=gradients,
        optimizer=0.0 if launch.offload != "none" else states,
        activations=activations(stage, shape, ranks),
        buffers=buffers,
    )


def activations(stage: TrainingStage, shape: Shape, ranks: int) -> float:
    """Bytes that one micro-batch keeps. With checkpointing: one hidden state a block, and the block at work."""
    size, launch = BYTES[stage.precision], stage.launch
    rows = min(launch.micro_batch_size or 10**9, -(-stage.batch_size // ranks))
    rows *= getattr(stage, "max_responses", 2 if isinstance(stage, DpoStage) else 1)
    length = stage.max_length
    if isinstance(stage, OnPolicyStage):
        length = stage.max_prompt_length + stage.max_new_tokens
    tokens = rows * length
    blocks = shape.layers * shape.block_activations()
    if launch.gradient_checkpointing:
        blocks = shape.layers * shape.hidden + shape.block_activations()
    # Logits where the loss is, once in the model's precision, and in float32 with their log-softmax and gradient.
    counted = 0 if isinstance(stage, RewardStage) else tokens
    if isinstance(stage, OnPolicyStage):
        counted = rows * stage.max_new_tokens
    return tokens * blocks * size + counted * shape.vocabulary * (size + 3 * 4)


def _rollout(stage: OnPolicyStage, shape: Shape, ranks: int) -> float:
    """Keys and values of every block for all answers that a rank writes at once, and the logits of one step."""
    rows = -(-stage.batch_size // ranks)
    length = stage.max_prompt_length + stage.max_new_tokens
    size = BYTES[stage.precision]
    return rows * (length * shape.layers * 2 * shape.kv_width * size + shape.vocabulary * (size + 2 * 4))


def host(stage: TrainingStage, shape: Shape, ranks_here: int, ranks: int) -> float:
    """Bytes in a node's own memory: every rank reads the model there (split on loading: one does); what is offloaded stays."""
    launch, trained = stage.launch, shape.trained(stage.optimizer.lora)
    kept = 0.0
    if launch.offload != "none":
        kept += trained * (8 if stage.precision == "fp32" else 16) / ranks * ranks_here
    if launch.offload == "all":
        kept += shape.parameters * BYTES[stage.precision] / ranks * ranks_here
    readers = 1 if _is_split_on_loading(stage) else ranks_here
    return max(kept, shape.parameters * BYTES[stage.precision] * readers)


# The recipe


@dataclass(frozen=True)
class Planned:
    stage: TrainingStage
    shape: Shape
    others: dict[str, Shape]
    ranks: int
    ranks_here: int


def read(path: Path, ranks: int | None = None) -> list[Planned]:
    """The training stages of a recipe with the shapes of their models; BadInput says what is wrong with it."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        stages: list[Any] = TypeAdapter(list[AnyStage]).validate_python(raw["training"])
        tokenizer = TokenizerSettings.model_validate(raw.get("tokenizer") or {})
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is no recipe: {error!r}") from error
    if not stages:
        raise BadInput(f"{path}: training: it names no stage")
    made: dict[str, Shape] = {}
    planned = []
    for stage in stages:
        models = {role: made.get(source) or shapes.named(source) for role, source in stage.models().items()}
        shape = models.pop("init", None)
        if shape is None:
            if not isinstance(stage, PretrainStage):
                raise BadInput(f"{path}: stage {stage.name}: init: name the stage, folder or hub name that it starts from")
            shape = shapes.fresh(stage.model, tokenizer.vocab_size)
        made[stage.name] = shape
        everywhere, here = _ranks(stage.launch, path.parent, ranks)
        planned.append(Planned(stage, shape, models, everywhere, here))
    return planned


def _ranks(launch: Launch, folder: Path, given: int | None) -> tuple[int, int]:
    """(ranks of the job, the most on one node)."""
    if launch.hostfile is None:
        return launch.ranks, launch.ranks
    path = folder / launch.hostfile
    if not path.is_file():
        if given is None:
            raise BadInput(f"launch.hostfile: no such file: {path}; write it, or say --ranks")
        return given, min(given, launch.ranks)
    lines = [line.split("#")[0] for line in path.read_text(encoding="utf-8").splitlines()]
    found = [part.removeprefix("slots=") for line in lines for part in line.split() if part.startswith("slots=")]
    slots = [int(number) for number in found if number.isdecimal() and int(number)]
    if not slots or len(slots) < len(found):
        raise BadInput(f"launch.hostfile: {path} has no line `HOST slots=N`, or one whose N is no number of ranks")
    return sum(slots), max(slots)


def largest(planned: Planned, room: Room) -> str | None:
    """The largest of the known models that would fit a stage (all its models of that size)."""
    fitting = [
        name
        for name, shape in shapes.KNOWN.items()
        if room.holds(need(planned.stage, shape, dict.fromkeys(planned.others, shape), planned.ranks))
    ]
    return fitting[-1] if fitting else None


def room_here(ranks: int) -> Room:
    """The memory of the first GPU, or a rank's share of this machine's."""
    tool = shutil.which("nvidia-smi")
    if tool:
        asked = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        found = subprocess.run(asked, check=False, capture_output=True, text=True).stdout.split()
        if found:
            return Room(float(found[0]) * 2**20)
    return Room(psutil.virtual_memory().total / ranks, is_card=False)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, help="a recipe file, or the name of a bundled one")
    parser.add_argument(
        "--card-gb", type=float, help="memory of one card in GB; default: the first card here"
    )
    parser.add_argument("--ranks", type=int, help="ranks in all, where the recipe's hostfile is not here")
    options = parser.parse_args()
    for name, given in (("--card-gb", options.card_gb), ("--ranks", options.ranks)):
        if given is not None and not given > 0:
            parser.error(f"argument {name}: {given:g} is not above 0")
    bundled = Path(__file__).parents[1] / "flows" / "recipes" / f"{options.recipe}.yaml"
    try:
        planned = read(options.recipe if options.recipe.is_file() else bundled, options.ranks)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    card = Room(options.card_gb * GIGA) if options.card_gb else None
    rooms = [card or room_here(plan.ranks_here) for plan in planned]
    print(table(planned, rooms))
    fits = (room.holds(need(plan.stage, plan.shape, plan.others, plan.ranks)) for plan, room in zip(planned, rooms, strict=True))
    return 0 if all(fits) else 1


def table(planned: list[Planned], rooms: list[Room]) -> str:
    """GB a card for every stage, whether it fits, and the largest known model that would."""
    names = [field.name for field in fields(Need)]
    head = [
        "stage",
        "model",
        "ranks",
        *names,
        "tensors",
        "taken",
        "of",
        "fits",
        "host while loading",
        "largest that fits",
    ]
    rows = [head]
    for plan, room in zip(planned, rooms, strict=True):
        found = need(plan.stage, plan.shape, plan.others, plan.ranks)
        numbers = [f"{getattr(found, name) / GIGA:.2f}" for name in names]
        rows.append([
            plan.stage.name, in_words(plan.shape.parameters), str(plan.ranks), *numbers, f"{found.total / GIGA:.2f}",
            f"{room.taken(found) / GIGA:.2f}", f"{room.bytes / GIGA:.0f}", "yes" if room.holds(found) else "NO",
            f"{host(plan.stage, plan.shape, plan.ranks_here, plan.ranks) / GIGA:.1f}",
            (largest(plan, room) or "none of the known").removeprefix("Qwen/"),
        ])  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(["GB (1e9 bytes) on one card; a stage fits in nine tenths of it", *lines])


if __name__ == "__main__":
    sys.exit(main())
