"""When things go wrong: a clear error or a counted drop, never a hang, and what was whole before stays whole."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from rlhf_core.engine import Engine, Ranks
from rlhf_core.job.errors import BadInput, TrainingFailed
from rlhf_core.job.failures import is_full_disk, is_out_of_memory
from rlhf_core.job.recorder import Recorder
from rlhf_core.stages.sft import Sft
from tests.rlhf_core import toy
from tests.rlhf_core.toy import Chain, read_metrics

FULL = Path("/dev/full")  # every write to it finds no space left; never rename onto it


def summary(output: Path) -> dict[str, Any]:
    return json.loads((output / "summary.json").read_text())


def splits(folder: Path, records: list[dict[str, Any]], held_out: list[dict[str, Any]] | None = None) -> dict[str, str]:
    toy.write_lines(folder / "train.jsonl", records)
    toy.write_lines(folder / "eval.jsonl", records if held_out is None else held_out)
    return {"data": str(folder)}


# Memory and disk


def test_what_torch_says_of_memory_and_disk_is_understood() -> None:
    from safetensors import SafetensorError

    assert FULL.is_char_device()
    with pytest.raises(RuntimeError) as host:
        torch.empty(2**60)
    assert is_out_of_memory(host.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    writers: list[Any] = [lambda: FULL.write_text("x"), lambda: torch.save(torch.zeros(10**5), FULL)]
    for write in writers:
        with pytest.raises((OSError, RuntimeError)) as full:
            write()
        assert is_full_disk(full.value), repr(full.value)
    # safetensors writes a file beside and renames it: its words, since it would replace the device
    assert is_full_disk(SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"))
    assert not is_full_disk(FileNotFoundError(2, "No such file"))


def test_out_of_memory_in_a_step_names_the_way_out(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(self: Engine, loss: Any) -> None:
        torch.empty(2**60)

    monkeypatch.setattr(Engine, "backward", hungry)
    with pytest.raises(TrainingFailed, match=r"out of memory.*launch\.micro_batch_size below 16.*max_length"):
        chain.run("hungry_sft", "sft", steps=2)
    launch = {"threads": 1, "micro_batch_size": 1, "gradient_checkpointing": True}
    with pytest.raises(TrainingFailed, match="max_new_tokens") as failure:
        chain.run("hungry_rloo", "rloo", steps=2, launch=launch)
    assert "micro_batch_size" not in str(failure.value) and "gradient_checkpointing" not in str(failure.value)


@pytest.mark.parametrize("what", ["checkpoint", "metrics", "model"])
def test_a_full_disk_keeps_the_last_whole_checkpoint_and_the_run_goes_on_once_there_is_room(
    chain: Chain, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills at step 4, after a whole checkpoint at 2, or when the model is saved."""
    options: dict[str, Any] = {"steps": 5, "checkpoint_steps": 2, "eval_steps": 5}
    whole = chain.run(f"{what}_room", "sft", **options)
    save, write = Engine.save, Recorder.write

    def full_checkpoint(self: Engine, folder: Path) -> None:
        save(self, folder)
        if "00000004" in str(folder):
            torch.save({"weights": torch.zeros(10**5)}, FULL)

    def full_metrics(self: Recorder, step: int, *rest: Any) -> None:
        if step == 4:
            self.metrics = FULL
        write(self, step, *rest)

    def full_model(*arguments: Any, **options: Any) -> None:
        from safetensors import SafetensorError

        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    if what == "checkpoint":
        monkeypatch.setattr(Engine, "save", full_checkpoint)
    elif what == "metrics":
        monkeypatch.setattr(Recorder, "write", full_metrics)
    else:
        monkeypatch.setattr("rlhf_core.models.networks.PolicyModel.save", full_model)
    with pytest.raises(TrainingFailed, match=r"disk is full.*free: .*GiB"):
        chain.run(f"{what}_full", "sft", **options)
    output = chain.world / f"{what}_full"
    assert not (output / "summary.json").exists()
    monkeypatch.undo()
    assert read_metrics(chain.run(f"{what}_full", "sft", **options)) == read_metrics(whole)


def test_the_job_ends_with_one_line_and_status_1(chain: Chain, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from rlhf_core.settings import Job
    from rlhf_core.train import guarded, train

    monkeypatch.setattr(Engine, "step", lambda self, rate: torch.empty(2**60))
    job = Job.model_validate(chain.job("hungry_job", "sft", steps=1))
    assert guarded(train, job) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: out of memory") and said.count("\n") == 1


def test_a_corrupt_checkpoint_is_passed_over_and_the_result_is_the_same(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed behind its checkpoints at 2 and 4; of the newer one a byte is turned: the run goes on from 2."""
    options: dict[str, Any] = {"steps": 6, "checkpoint_steps": 2, "eval_steps": 6}
    whole = chain.run("corrupt_none", "sft", **options)
    save = Engine.full_state

    def killed(self: Engine) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "full_state", killed)
    with pytest.raises(KeyboardInterrupt):
        chain.run("corrupt", "sft", **options)
    monkeypatch.setattr(Engine, "full_state", save)
    folder = chain.world / ".work" / "corrupt" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000004", "step-00000006"]
    damaged = next((folder / "step-00000006").rglob("*.pt"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.write_bytes(content)
    assert read_metrics(chain.run("corrupt", "sft", **options)) == read_metrics(whole)
    said = capsys.readouterr()
    assert "step-00000006 is not used" in said.err
    assert "resumed after step 4" in said.out


@pytest.mark.parametrize("kind", ["reward", "rloo", "raft", "dpo"])
def test_nan_names_the_step_and_leaves_no_model(chain: Chain, kind: str) -> None:
    optimizer = {"learning_rate": 1e30, "warmup_share": 0.0, "clip_grad_norm": 1e30, "schedule": "constant"}
    with pytest.raises(TrainingFailed, match=r"step \d+: .*(nan|inf)"):
        chain.run(f"nan_{kind}", kind, steps=12, eval_steps=1, optimizer=optimizer)
    assert not (chain.world / f"nan_{kind}" / "model").exists()


@pytest.mark.parametrize("kind", ["rloo", "raft", "dpo"])
def test_a_reward_model_that_says_no_number_is_named(chain: Chain, kind: str, tmp_path: Path) -> None:
    """dpo went on: its pairs were in any order. The others said that their learning rate was too high."""
    broken = shutil.copytree(chain.world / "reward" / "model", tmp_path / "broken")
    state = load_file(broken / "model.safetensors")
    state["score.weight"][0, 0] = math.nan
    save_file(state, broken / "model.safetensors", metadata={"format": "pt"})
    inputs, more = {"reward_model": str(broken)}, {}
    if kind == "dpo":
        inputs["data"] = str(chain.world / "splits" / "ppo")
        more = {"pairs_from": "samples", "data": "splits/ppo", "reward_model": "reward", "samples": 4}
    with pytest.raises(TrainingFailed, match=r"reward reward_model: \d+ of \d+ scores are not finite"):
        chain.run(f"no_number_{kind}", kind, inputs, steps=2, **more)


@pytest.mark.parametrize("kind", ["sft", "reward", "dpo", "rloo"])
def test_a_folder_without_examples_is_named(chain: Chain, kind: str, tmp_path: Path) -> None:
    """As a blend it was left out without a word."""
    with pytest.raises(BadInput, match=f"input data: no train.jsonl in {tmp_path}: a split is wanted"):
        chain.run(f"no_examples_{kind}", kind, {"data": str(tmp_path)}, steps=1)
    if kind == "sft":
        with pytest.raises(BadInput, match=f"input data_1: no train.jsonl in {tmp_path}"):
            chain.run("no_blend", kind, {"data_1": str(tmp_path)}, steps=1, blend={"more": 2.0})


def test_an_empty_corpus_of_ptx_is_named(chain: Chain, tmp_path: Path) -> None:
    corpus = chain.world / "corpus" / "documents" / "part-00000.parquet"
    pq.write_table(pq.read_table(corpus).slice(0, 0), tmp_path / "part-00000.parquet")
    with pytest.raises(BadInput, match="ptx_data: the corpus has no document"):
        chain.run("no_ptx", "rloo", {"ptx": str(tmp_path)}, ptx_coef=1.0, ptx_data="corpus", max_length=24, steps=1)


@pytest.mark.parametrize("kind", ["pretrain", "sft", "reward", "dpo", "rloo"])
def test_a_checkpoint_of_other_data_is_not_gone_on_from(chain: Chain, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file was changed while the job was dead: the rest of the steps would be of other examples than the first."""
    given = Path(chain.job("same", kind)["inputs"]["data"])
    names = {"pretrain": "documents/part-00000.parquet"}
    data = shutil.copytree(given, tmp_path / "data")
    changed = data / names.get(kind, "train.jsonl")
    options: dict[str, Any] = {"steps": 5, "checkpoint_steps": 2, "eval_steps": 5}

    def change() -> None:
        if kind == "pretrain":
            table = pq.read_table(changed)
            pq.write_table(table.slice(0, len(table) - 1), changed)
        else:
            changed.write_text("".join(changed.read_text().splitlines(keepends=True)[:-1]))

    output = toy.killed_and_resumed(chain, 4, f"changed_{kind}", kind, {"data": str(data)}, between=change, **options)
    said = capsys.readouterr()
    assert "it belongs to other settings, other data or another number of ranks" in said.err and "resumed" not in said.out
    assert read_metrics(output) == read_metrics(chain.run(f"changed_{kind}_anew", kind, {"data": str(data)}, **options))


def test_ranks_that_have_read_different_data_end() -> None:
    class Two(Ranks):
        def gather(self, value: Any) -> list[Any]:
            return [value, "other"]

    assert Two(0, 2, torch.device("cpu")).same("other") == "other"
    with pytest.raises(BadInput, match="different data: they must be the same on all nodes"):
        Two(0, 2, torch.device("cpu")).same("own")


def test_data_that_change_while_they_are_read_end_the_job(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one length as before, a letter in the middle."""
    data = shutil.copytree(chain.world / "splits" / "sft", tmp_path / "data")
    read = Sft._read

    def reading(path: Path, *more: Any) -> Any:
        found = read(path, *more)
        path.write_text(path.read_text().replace("Orsk", "Orsj"))
        return found

    monkeypatch.setattr(Sft, "_read", staticmethod(reading))
    with pytest.raises(BadInput, match=r"data changed while they were read \(.*data\): start the job again"):
        chain.run("changing", "sft", {"data": str(data)}, steps=1)


# What only cards can do


@pytest.mark.parametrize("kind", ["sft", "pretrain"])
def test_what_needs_a_card_is_refused_without_one(chain: Chain, kind: str) -> None:
    with pytest.raises(BadInput, match="lamb runs on GPUs alone; use adamw"):
        chain.run(f"lamb_{kind}", kind, steps=1, optimizer={"kind": "lamb"})
    with pytest.raises(BadInput, match="flash_attention_2 runs on GPUs alone; use sdpa"):
        chain.run(f"flash_{kind}", kind, steps=1, precision="bf16", launch={"attention": "flash_attention_2"})


@pytest.mark.slow
@pytest.mark.parametrize(("zero", "offload"), [(2, "optimizer"), (3, "all")])
def test_offloading_changes_no_figure(chain: Chain, zero: int, offload: str) -> None:
    """On CPUs it moves nothing, and DeepSpeed's way through it is the same."""
    launch = {"threads": 1, "zero_stage": zero}
    plain = read_metrics(chain.run(f"here_{zero}", "sft", steps=3, launch=launch))
    moved = read_metrics(chain.run(f"moved_{zero}", "sft", steps=3, launch=launch | {"offload": offload}))
    for a, b in zip(plain, moved, strict=True):
        assert {name: pytest.approx(value, rel=1e-5) for name, value in a.items()} == b


# Data


def test_empty_and_one_sided_preferences_are_refused_with_their_counts(chain: Chain, tmp_path: Path) -> None:
    alike = toy.record(0, [("user", "Say it.")], responses=["Orsk.", "Orsk.", "Orsk."])
    single = toy.record(1, [("user", "Say it.")], responses=["Orsk."])
    for kind in ("reward", "dpo"):
        with pytest.raises(BadInput, match=r"differ|different"):
            chain.run(f"empty_{kind}", kind, splits(tmp_path / f"empty_{kind}", []))
        with pytest.raises(BadInput, match=r"equal_pairs\W+[13]") as refused:  # dpo: best against worst alone
            chain.run(f"alike_{kind}", kind, splits(tmp_path / f"alike_{kind}", [alike, single]))
        assert "train.jsonl" in str(refused.value)


def test_one_usable_ranking_among_unusable_ones_is_counted_and_learned(chain: Chain, tmp_path: Path) -> None:
    good = toy.record(0, [("user", "Say it.")], responses=["Orsk.", "Tarn."])
    alike = toy.record(1, [("user", "Say it.")], responses=["Orsk.", "Orsk."])
    long = toy.record(2, [("user", "very " * 300)], responses=["Orsk.", "Tarn."])
    lonely = [toy.record(3, [("user", "Say it.")], responses=responses) for responses in (["Orsk."], [])]
    data = splits(tmp_path, [good, alike, long, *lonely], [])
    figures = summary(chain.run("mixed_dpo", "dpo", data, steps=2))
    assert (figures["pairs"], figures["dropped_equal_pairs"], figures["dropped_too_long_prompts"]) == (1, 1, 1)
    assert figures["dropped_single_answer_prompts"] == 2
    figures = summary(chain.run("mixed_reward", "reward", data, steps=2))
    assert (figures["train_pairs"], figures["dropped_equal_pairs"], figures["dropped_too_long_prompts"]) == (1, 1, 1)


def test_prompts_longer_than_allowed_are_dropped_and_counted_and_than_the_context_refused(
    chain: Chain, tmp_path: Path
) -> None:
    short = toy.record(0, [("user", "Name the capital of Ald.")])
    long = toy.record(1, [("user", "very " * 300)])
    for kind in ("rloo", "best_of_n"):
        figures = summary(chain.run(f"long_{kind}", kind, splits(tmp_path / kind, [short, long]), steps=1, batch_size=4))
        assert (figures["prompts"], figures["dropped_too_long_prompts"]) == (1, 1)
    with pytest.raises(BadInput, match="no prompt of at most"):
        chain.run("long_all", "rloo", splits(tmp_path / "all", [long]))
    with pytest.raises(BadInput, match="128 positions"):
        chain.run("long_context", "rloo", max_prompt_length=120, max_new_tokens=12)
    with pytest.raises(BadInput, match="500 tokens do not fit the model's 128 positions"):
        chain.run("long_ptx", "rloo", {"ptx": str(chain.world / "corpus")}, ptx_coef=1.0, ptx_data="corpus", max_length=500, steps=1)
    conversation = toy.record(2, [("user", "very " * 300), ("assistant", "Orsk.")])
    with pytest.raises(BadInput, match="no example is left"):
        chain.run("long_sft", "sft", splits(tmp_path / "sft", [conversation]))


def test_a_base_model_without_pad_and_template_is_trained_and_leaves_with_both(chain: Chain, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    bare = shutil.copytree(chain.world / "pretrain" / "model", tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    config = json.loads((bare / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (bare / "tokenizer_config.json").write_text(json.dumps(config))
    assert AutoTokenizer.from_pretrained(bare).chat_template is None
    output = chain.run("bare", "sft", {"init": str(bare)}, steps=2)
    tokenizer = AutoTokenizer.from_pretrained(output / "model")
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert tokenizer.chat_template


def test_a_reward_or_value_model_of_fewer_positions_is_refused_before_the_first_step(chain: Chain, tmp_path: Path) -> None:
    """Rotary positions would go on beyond what was learned, and say nothing."""
    short = shutil.copytree(chain.world / "reward" / "model", tmp_path / "short")
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 24}))
    for kind in ("rloo", "best_of_n"):
        with pytest.raises(BadInput, match="has 24 positions"):
            chain.run(f"short_{kind}", kind, {"reward_model": str(short)}, steps=1)
    with pytest.raises(BadInput, match="24 positions"):
        chain.run("short_value", "ppo", {"value_init": str(short)}, steps=1, value_init="short")


@pytest.mark.parametrize("function", ["none", "words", "too_few", "figures_in_words", "figures", "by_answer", "too_large", "far_too_large"])
def test_what_a_reward_function_returns_is_named(chain: Chain, function: str) -> None:
    with pytest.raises(BadInput, match=rf"{function}: \d+ finite numbers were expected, one an answer; it returned"):
        chain.run(f"returns_{function}", "rloo", steps=1, reward_model=None, rewards=[{"function": f"{HERE}:{function}"}])


HERE = __name__


def none(prompts: list[Any], answers: list[str]) -> Any:
    return None


def words(prompts: list[Any], answers: list[str]) -> Any:
    return ["good"] * len(answers)


def too_few(prompts: list[Any], answers: list[str]) -> Any:
    return [1.0]


def figures_in_words(prompts: list[Any], answers: list[str]) -> Any:
    return ["1.5"] * len(answers)


def figures(prompts: list[Any], answers: list[str]) -> Any:
    return "1" * len(answers)


def by_answer(prompts: list[Any], answers: list[str]) -> Any:
    return dict.fromkeys(range(len(answers)), 1.0)  # its keys would be the scores


def too_large(prompts: list[Any], answers: list[str]) -> Any:
    return [1e300] * len(answers)  # infinite in float32


def far_too_large(prompts: list[Any], answers: list[str]) -> Any:
    return [10**400] * len(answers)


def leaving(prompts: list[Any], answers: list[str]) -> Any:
    raise SystemExit(0)


def test_a_reward_function_that_calls_exit_ends_no_job_well(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    """With a status of 0 the job would pass for done."""
    from rlhf_core.settings import Job
    from rlhf_core.train import guarded, train

    job = Job.model_validate(chain.job("left", "rloo", steps=1, reward_model=None, rewards=[{"function": f"{HERE}:leaving"}]))
    assert guarded(train, job) == 1
    assert capsys.readouterr().err.endswith("error: code that the job calls ended it: sys.exit(0)\n")
