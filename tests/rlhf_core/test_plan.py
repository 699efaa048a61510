"""The memory plan: counts by hand and against real models, what fits, and (slow) an estimate beside a measured peak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlhf_core import plan
from rlhf_core.job.errors import BadInput
from rlhf_core.models import shapes
from rlhf_core.models.shapes import Shape
from rlhf_core.settings import DpoStage, FreshModel, Lora, PpoStage, SftStage
from tests.rlhf_core.toy import Chain

ROOT = Path(__file__).parents[2]
SHAPE = Shape(hidden=8, layers=2, heads=2, kv_heads=1, inner=16, vocabulary=10, tied=True)


def test_parameters_by_hand() -> None:
    # q, o: 8x8; k, v: 8x4; three of 8x16; two norms of 8: 592 a block; the last norm and 10 embeddings of 8
    assert SHAPE.parameters == 2 * (64 + 64 + 32 + 32 + 3 * 128 + 16) + 8 + 80
    # adapters of rank 3 on q and v: 3 x (8 + 8) + 3 x (8 + 4)
    assert SHAPE.trained(Lora(rank=3, modules=["q_proj", "v_proj"])) == 2 * (48 + 36)


@pytest.mark.parametrize(("tied", "kv_heads"), [(True, 2), (False, 4)])
def test_parameters_of_a_real_model(chain: Chain, tied: bool, kv_heads: int) -> None:
    from rlhf_core.dataset.chat_template import load_chat
    from rlhf_core.models.lora import add_lora
    from rlhf_core.models.networks import fresh_policy

    chat = load_chat(str(chain.world / "pretrain" / "model"))
    settings = FreshModel(hidden_size=64, layers=3, heads=4, kv_heads=kv_heads, tie_embeddings=tied)
    model, shape = fresh_policy(settings, chat, 1), shapes.fresh(settings, chat.vocab_size)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    add_lora(model.model, Lora(rank=4))
    assert shape.trained(Lora(rank=4)) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    model.model.config.save_pretrained(chain.world / "shape")
    assert shapes.named(str(chain.world / "shape")) == shape


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Qwen3": {"num_key_value_heads": 2, "head_dim": 32},  # heads that are not hidden / heads wide
    "Gemma2": {"num_key_value_heads": 1, "head_dim": 32},
    "Mixtral": {"num_key_value_heads": 2, "num_local_experts": 4},
    "Qwen3Moe": {"num_key_value_heads": 2, "head_dim": 32, "num_experts": 8, "moe_intermediate_size": 48},
    "Qwen2Moe": {"num_key_value_heads": 4, "num_experts": 4, "moe_intermediate_size": 48, "shared_expert_intermediate_size": 64},
    "GPTNeoX": {},  # two matrices without a gate
    "Phi": {},
    "Starcoder2": {"num_key_value_heads": 1},
    "Falcon": {"multi_query": True},
    "GPT2": {"n_inner": 96},
    "GPTNeo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global"], 2]]},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameters_of_other_architectures(name: str) -> None:
    """Biases, positions and the norms of heads are left out: 3% at this width, 1% of a real model."""
    import transformers

    common = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 192, "vocab_size": 300}
    common |= {"max_position_embeddings": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "tie_word_embeddings": True}
    config = getattr(transformers, f"{name}Config")(**common | ARCHITECTURES[name])
    model: Any = transformers.AutoModelForCausalLM.from_config(config)
    counted = sum(p.numel() for p in model.parameters())
    assert shapes.of_config(name, json.loads(config.to_json_string())).parameters == pytest.approx(counted, rel=0.03)


@pytest.mark.parametrize("other", [{"kv_lora_rank": 8}, {"mamba_d_state": 8}, {"hidden_size": "many"}])
def test_blocks_that_cannot_be_counted_are_refused(other: dict[str, Any]) -> None:
    config = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300}
    assert shapes.of_config("x/y", config).parameters
    with pytest.raises(BadInput, match="x/y: "):
        shapes.of_config("x/y", config | other)


def test_a_block_keeps_what_its_active_experts_keep() -> None:
    """Two of eight: a block holds all, a token passes two."""
    dense = Shape(hidden=8, layers=2, heads=2, kv_heads=1, inner=16, vocabulary=10, tied=True)
    mixed = Shape(hidden=8, layers=2, heads=2, kv_heads=1, inner=0, vocabulary=10, tied=True, experts=8, active=2, expert_inner=8)
    assert mixed.block_activations() == dense.block_activations()
    assert mixed.parameters - dense.parameters == 2 * (3 * 8 * (8 * 8 - 16) + 8 * 8)


@pytest.mark.parametrize(("name", "billions"), [("0.5B", 0.494), ("1.5B", 1.54), ("7B", 7.62), ("72B", 72.7)])
def test_published_sizes(name: str, billions: float) -> None:
    assert shapes.KNOWN[f"Qwen/Qwen2.5-{name}"].parameters / 1e9 == pytest.approx(billions, rel=0.005)


def stage(kind: Any = SftStage, pairs_from: str | None = None, **launch: Any) -> Any:
    more = {"reward_model": "x/y"} if kind is PpoStage or pairs_from == "samples" else {}
    if pairs_from:
        more |= {"pairs_from": pairs_from, "data": "splits/ppo"}
    return kind(name="s", init="x/y", precision="bf16", batch_size=16, launch=launch, **more)


def test_zero_splits_optimizer_then_gradients_then_weights() -> None:
    """Rajbhandari et al. 2020, figure 1, over 4 cards; without ZeRO 2, gradients are there in float32 as well."""
    p = SHAPE.parameters
    found = [plan.need(stage(zero_stage=zero), SHAPE, {}, 4) for zero in (0, 1, 2, 3)]
    assert [need.weights for need in found] == [2 * p, 2 * p, 2 * p, p / 2]
    assert [need.gradients for need in found] == [6 * p, 6 * p, p / 2, p / 2]
    assert [need.optimizer for need in found] == [12 * p, 3 * p, 3 * p, 3 * p]
    offloaded = plan.need(stage(zero_stage=3, offload="all"), SHAPE, {}, 4)
    assert offloaded.weights == offloaded.optimizer == 0


def test_checkpointing_and_micro_batches_shrink_activations() -> None:
    whole, parts = (plan.activations(stage(micro_batch_size=rows), SHAPE, 1) for rows in (16, 4))
    assert whole == 4 * parts
    assert plan.activations(stage(micro_batch_size=4, gradient_checkpointing=True), SHAPE, 1) < parts


def test_ppo_counts_its_other_models() -> None:
    found = plan.need(stage(PpoStage), SHAPE, {"reward_model": SHAPE}, 1)
    assert found.weights == 2 * 2 * SHAPE.parameters  # policy and value
    assert found.other_models == 2 * 2 * SHAPE.parameters  # reference and reward model
    # 16 answers: keys and values of 96 tokens (width 4 each, 2 blocks), and logits once in bf16 and twice in float32
    assert found.cache == 16 * (96 * 2 * 2 * 4 * 2 + 10 * 10)


def test_a_value_model_is_as_large_as_the_first_reward_model_whatever_its_role() -> None:
    small = Shape(hidden=8, layers=1, heads=2, kv_heads=1, inner=16, vocabulary=10, tied=True)
    for role in ("reward_model", "reward_1"):
        assert plan.need(stage(PpoStage), SHAPE, {role: small}, 1).weights == 2 * (SHAPE.parameters + small.parameters)
    assert plan.need(stage(PpoStage), SHAPE, {"reward_1": small, "value_init": SHAPE}, 1).weights == 4 * SHAPE.parameters


def test_policy_and_value_keep_activations_at_once_only_where_one_pass_serves_as_old_and_new() -> None:
    def kept(**more: Any) -> float:
        settings = stage(PpoStage).model_copy(update=more)
        return plan.need(settings, SHAPE, {"reward_model": SHAPE}, 1).activations / plan.activations(settings, SHAPE, 1)

    small = stage(PpoStage, micro_batch_size=4).launch
    assert [kept(), kept(ppo_epochs=2), kept(ppo_epochs=2, minibatches=2), kept(ppo_epochs=2, launch=small)] == [1, 2, 1, 1]


@pytest.mark.parametrize(
    ("recipe", "card"), [("single_gpu", 24.0), ("multi_gpu", 80.0), ("multi_node", 80.0)]
)
def test_the_bundled_recipes_fit_their_cards_and_no_much_smaller_ones(recipe: str, card: float) -> None:
    planned = plan.read(ROOT / "flows" / "recipes" / f"{recipe}.yaml")
    totals = [plan.need(p.stage, p.shape, p.others, p.ranks).total for p in planned]
    assert 0.3 * card < max(totals) / 1e9 < 0.9 * card
    assert plan.largest(planned[0], plan.Room(card * 1e9)) is not None


def test_the_command_says_what_does_not_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["plan", "single_gpu", "--card-gb", "8"])
    assert plan.main() == 1
    out = capsys.readouterr().out
    assert "ppo" in out and " NO " in out and "Qwen2.5-0.5B" in out
    monkeypatch.setattr(sys, "argv", ["plan", "nowhere"])
    assert plan.main() == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"\xff\xfe", "is no recipe"),
        (b"training: []", "names no stage"),
        (b"training: [{name: s, kind: sft}]", "stage s: init: name the stage"),
        (b"training: [{name: s, kind: sft, init: ./broken}]", "broken/config.json is no model's configuration"),
        (b"training: [{name: s, kind: sft, init: Qwen/Qwen2.5-0.5B, launch: {hostfile: hosts}}]", "one whose N is no number of ranks"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said(written: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each was a traceback."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    (tmp_path / "hosts").write_text("a slots=8\nb slots=eight\n")
    (tmp_path / "recipe.yaml").write_bytes(written)
    with pytest.raises(BadInput, match=message):
        plan.read(tmp_path / "recipe.yaml")


def test_recipes_that_cannot_be_planned(tmp_path: Path) -> None:
    broken = tmp_path / "r.yaml"
    broken.write_text("training: [{kind: sft, name: s, init: x/y, batch_size: 0}]")
    with pytest.raises(BadInput, match="batch_size"):
        plan.read(broken)
    broken.write_text("training: [{kind: sft, name: s, init: x/y, launch: {hostfile: hosts}}]")
    (tmp_path / "x").mkdir()
    with pytest.raises(BadInput, match="the shape of x/y is not known"):
        plan.read(broken)


def test_a_process_takes_more_than_its_tensors_and_a_card_does_not() -> None:
    need = plan.Need(weights=1e9, gradients=1e9, optimizer=0.0, activations=0.0)
    assert plan.Room(3e9).taken(need) == 2e9
    assert plan.Room(3e9, is_card=False).taken(need) == 0.44e9 + 1.5 * 2e9
    assert plan.Room(3e9).holds(need) and not plan.Room(3e9, is_card=False).holds(need)


def test_models_that_are_split_as_they_are_read_need_no_room_to_be_whole() -> None:
    """7B on 4 cards: 15.2 GB would have to lie on each; offloaded, 2 bytes a weight and 16 an optimizer state do not."""
    shape, small = shapes.KNOWN["Qwen/Qwen2.5-7B"], {"zero_stage": 3, "offload": "all", "micro_batch_size": 1}
    assert plan.need(stage(**small), shape, {}, 4).loading == 0
    ppo = plan.need(stage(PpoStage, **small), shape, {"reward_model": SHAPE}, 4)
    assert ppo.loading > 2 * shape.parameters
    assert plan.need(stage(DpoStage, **small), shape, {}, 4).loading == 0
    assert plan.need(stage(DpoStage, pairs_from="samples", **small), shape, {}, 4).loading == 2 * shape.parameters
    assert plan.host(stage(zero_stage=3), shape, 4, 4) == 2 * shape.parameters
    assert plan.host(stage(zero_stage=2), shape, 4, 4) == 4 * 2 * shape.parameters


def test_under_zero_3_a_rank_holds_its_share_of_reference_and_reward_model_and_the_whole_model_that_writes() -> None:
    """2 bytes a weight: reward model and reference whole without ZeRO-3, and nobody else writes."""
    p, others = SHAPE.parameters, {"reward_model": SHAPE}
    found = [plan.need(stage(PpoStage, zero_stage=zero), SHAPE, others, 4).other_models for zero in (2, 3)]
    assert found == [2 * p + 2 * p, 2 * p / 4 + 2 * p / 4 + 2 * p]


MEASURE = """
import json, sys, tempfile
from contextlib import nullcontext
from pathlib import Path
from torch.profiler import ProfilerActivity, profile
from rlhf_core import engine, loop
from rlhf_core.generation import small
from rlhf_core.job.inputs import Inputs
from rlhf_core.settings import Job
from rlhf_core.train import build
small.SHORT = 0  # transformers' forward, as on GPUs; on CPUs a small Llama's own keeps less
job = Job.model_validate_json(open(sys.argv[1]).read())
ranks = engine.start(job.stage.launch)
tensors = sys.argv[2] == "tensors"  # the profiler's own notes would count in the process
with profile(activities=[ProfilerActivity.CPU], profile_memory=True) if tensors else nullcontext() as seen:
    stage = build(job.stage, Inputs(job.inputs, Path(job.work)), ranks)
    stage.save = lambda folder: None
    loop.run(job, job.stage, stage, ranks)
if tensors:
    with tempfile.NamedTemporaryFile() as file:
        seen.export_chrome_trace(file.name)
        events = json.load(open(file.name))["traceEvents"]
    print("PEAK", max(event["args"]["Total Allocated"] for event in events if event["name"] == "[memory]"))
else:
    print("PEAK", 1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launch", "lora"),
    [({}, None), ({"gradient_checkpointing": True}, None), ({}, {"rank": 16})],
    ids=["plain", "checkpointing", "adapters"],
)
def test_the_estimate_is_near_the_measured_peak(
    chain: Chain, launch: dict[str, Any], lora: dict[str, Any] | None
) -> None:
    """Two pretraining steps in float32 on one CPU rank: 32 M parameters, a gigabyte of activations. Saving is left out.

    Measured is what tensors hold, as a card's allocator would count it, and apart from that what the process holds.
    """
    from rlhf_core.settings import PretrainStage

    model = {"hidden_size": 512, "layers": 10, "heads": 8, "context_length": 256}
    options: dict[str, Any] = {
        "steps": 2, "eval_steps": 2, "checkpoint_steps": 9, "batch_size": 16, "max_length": 128, "model": model,
        "launch": {"threads": 1, **launch}, "optimizer": {"lora": lora},
    }  # fmt: skip
    path = chain.write_job("peak", "pretrain", **options)
    settings = PretrainStage.model_validate(json.loads(path.read_text())["stage"])
    need = plan.need(settings, shapes.fresh(settings.model, 360), {}, 1)
    process = plan.Room(0, is_card=False).taken(need)
    for what, estimated in (("tensors", need.total), ("process", process)):
        measured = peak(path, what)
        print(f"{what}: estimated {estimated / 1e6:.0f} MB, measured {measured / 1e6:.0f} MB")
        assert estimated == pytest.approx(measured, rel=0.25)


def peak(job: Path, what: str) -> float:
    """Bytes that the tensors of a job hold at most, or its process."""
    ours = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # of jobs run in this process
    env = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, "-c", MEASURE, str(job), what]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert "PEAK" in done.stdout, done.stderr
    return float(done.stdout.split("PEAK")[1].split()[0])
