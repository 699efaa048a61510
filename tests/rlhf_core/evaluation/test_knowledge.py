"""Multiple choice: against lm-evaluation-harness on the same model and files, with and without shared beginnings, bad files."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
)

from rlhf_core.evaluation import knowledge
from rlhf_core.evaluation.material import Material, Problems
from rlhf_core.evaluation.multiple_choice import Question, Subject, missing_subjects, read_subjects
from rlhf_core.evaluation.subjects import SUBJECTS
from rlhf_core.job.errors import BadInput
from rlhf_core.job.inputs import Inputs
from rlhf_core.models.networks import PolicyModel
from rlhf_core.settings import EvaluationSettings
from rlhf_core.settings.evaluation import KnowledgeSet

FILES = {
    "ceval": {
        "accountant": [("账户借方记什么？", "资产增加", "负债增加", "收入", "利润", "A"), ("一年有几个季度？", "二", "三", "四", "五", "C")],
        "valley": [("银梭河流经哪里？", "雾桥镇", "铜铃镇", "炉谷镇", "沙雁镇", "A"), ("鹅会飞吗？", "会", "不会", "有时", "不知道", "B")],
    },
    "mmlu": {
        "abstract_algebra": [("What is 1 + 1?", "1", "2", "3", "4", "B"), ('He said "no, never".', "true", "false", "both", "none", "D")],
    },
}  # fmt: skip
DEV = {
    "ceval": [("一加一等于几？", "一", "二", "三", "四", "B"), ("水是什么颜色？", "红", "黄", "蓝", "没有", "D")],
    "mmlu": [("How many legs has a goose?", "1", "2", "3", "4", "B"), ("Which is a river?", "Merrow", "stone", "pie", "bell", "A")],
}


def write(folder: Path, layout: str, split: str, subject: str, rows: list[tuple[str, ...]]) -> None:
    path = folder / layout / split / f"{subject}_{split}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        if layout == "ceval":
            writer.writerow(["id", "question", "A", "B", "C", "D", "answer", *(["explanation"] if split == "dev" else [])])
            rows = [(str(number), *row, *(["so it is"] if split == "dev" else [])) for number, row in enumerate(rows)]
        writer.writerows(rows)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("knowledge")
    for layout, subjects in FILES.items():
        for subject, rows in subjects.items():
            write(folder, layout, "val" if layout == "ceval" else "test", subject, rows)
            write(folder, layout, "dev", subject, DEV[layout])
    return folder


def byte_tokenizer(merges: list[tuple[str, str]], begins: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level; merges may join a letter with what stands before it; `begins`: every text gets a first token, as Llama's."""
    vocabulary = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges), "<end>", "<first>"]
    tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(vocabulary)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<end>", special=True), AddedToken("<first>", special=True)])
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<first> $A", special_tokens=[("<first>", tokenizer.token_to_id("<first>"))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", bos_token="<first>" if begins else None)


def piece_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2's: a blank belongs to the piece behind it, every text begins with one, unknown characters are bytes."""
    vocabulary = ["<unk>", "<first>", "<end>", *(f"<0x{n:02X}>" for n in range(256)), "▁", *"ABCD", *(f"▁{letter}" for letter in "ABCD")]
    merges = [("▁", letter) for letter in "ABCD"]
    tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(vocabulary)}, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<unk>", "<first>", "<end>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<first> $A", special_tokens=[("<first>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<first>", eos_token="<end>")


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "a space and a letter are two tokens": lambda: byte_tokenizer([]),
    '" A" is one token and "A" another': lambda: byte_tokenizer([("Ġ", letter) for letter in "ABCD"]),
    "a first token": lambda: byte_tokenizer([], begins=True),
    "pieces that begin with their blank": piece_tokenizer,
}


def llama(size: int = 260, **options: Any) -> LlamaForCausalLM:
    torch.manual_seed(5)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=size, max_position_embeddings=2048, initializer_range=0.15, **shape, **options)).eval()


def opt() -> OPTForCausalLM:
    torch.manual_seed(5)
    config = OPTConfig(
        vocab_size=260, hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4, init_std=0.3,
        max_position_embeddings=2048,
    )  # fmt: skip
    return OPTForCausalLM(config).eval()


def falcon() -> FalconForCausalLM:
    """Positions by ALiBi, as our fresh models have them."""
    torch.manual_seed(5)
    config = FalconConfig(
        vocab_size=260, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_kv_heads=2, alibi=True,
        new_decoder_architecture=True, hidden_dropout=0.0, attention_dropout=0.0, initializer_range=0.3,
    )  # fmt: skip
    return FalconForCausalLM(config).eval()


def ask(model: Any, tokenizer: Any, subjects: list[Subject], shots: int, context: int = 2048) -> list[knowledge.Reply]:
    return knowledge.ask(PolicyModel(model), tokenizer, subjects, shots, context, batch_tokens=4096)


def by_hand(model: Any, tokenizer: Any, prompt: str, letter: str) -> float:
    """One text at a time, without padding or cache: log p of the letter behind the prompt."""
    before = len(tokenizer(prompt)["input_ids"])
    ids = tokenizer(prompt + letter)["input_ids"]
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(logprobs[place - 1, ids[place]]) for place in range(before, len(ids)))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_lm_evaluation_harness_finds_the_same_probabilities(files: Path, name: str) -> None:
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tokenizer, model = TOKENIZERS[name](), llama(270)
    subjects = [subject for layout in FILES for subject in read_subjects(layout, files / layout)]
    replies = ask(model, tokenizer, subjects, shots=2)
    tasks = [harness_task(files / subject.layout, subject) for subject in subjects]
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, device="cpu")
    manager = TaskManager(include_defaults=False)  # its own tasks are thousands of files
    found = simple_evaluate(harness, tasks=tasks, num_fewshot=2, bootstrap_iters=0, task_manager=manager, verbosity="ERROR")
    samples = [sample for subject in subjects for sample in found["samples"][subject.name]]
    assert len(samples) == len(replies) == 6
    for sample, reply in zip(samples, replies, strict=True):
        assert reply.logprobs is not None
        theirs = [float(answer[0][0]) for answer in sample["resps"]]
        assert list(map(math.exp, reply.logprobs)) == pytest.approx(list(map(math.exp, theirs)), abs=1e-6)
        assert reply.logprobs == pytest.approx(theirs, abs=1e-4)  # says more where all are small
        assert reply.right == bool(sample["acc"])


def harness_task(folder: Path, subject: Subject) -> dict[str, Any]:
    """The subject as a task of lm-evaluation-harness, read from the same files."""
    chinese = subject.layout == "ceval"
    split = "val" if chinese else "test"
    csv_options = {} if chinese else {"header": None, "names": ["question", "A", "B", "C", "D", "answer"]}
    return {
        "task": subject.name,
        "dataset_path": "csv",
        "dataset_kwargs": {
            "data_files": {name: str(folder / name / f"{subject.name}_{name}.csv") for name in ("dev", split)},
            **csv_options,
        },
        "test_split": split,
        "fewshot_split": "dev",
        "fewshot_config": {"sampler": "first_n"},
        "output_type": "multiple_choice",
        "description": f"以下是中国关于{subject.title}考试的单项选择题，请选出其中的正确答案。\n\n"
        if chinese
        else f"The following are multiple choice questions (with answers) about {subject.title}.\n\n",
        "doc_to_text": "{{question}}\nA. {{A}}\nB. {{B}}\nC. {{C}}\nD. {{D}}\n" + ("答案：" if chinese else "Answer:"),
        "doc_to_choice": ["A", "B", "C", "D"],
        "doc_to_target": "{{['A', 'B', 'C', 'D'].index(answer)}}",
        "target_delimiter": "" if chinese else " ",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }


@pytest.mark.parametrize(("make", "shots"), [(llama, 0), (llama, 2), (opt, 2), (falcon, 2)])
def test_a_shared_beginning_changes_nothing(files: Path, make: Callable[[], Any], shots: int) -> None:
    model, tokenizer = make(), byte_tokenizer([("Ġ", "A"), ("Ġ", "B")])  # " A" is one token, " C" two
    for layout in FILES:
        reply = ask(model, tokenizer, read_subjects(layout, files / layout), shots)[-1]
        prompt = reply.subject.prompt(reply.question, shots)
        wanted = [by_hand(model, tokenizer, prompt, letter) for letter in reply.subject.letters()]
        assert reply.logprobs == pytest.approx(wanted, abs=2e-4)


def test_a_letter_that_melts_into_what_stands_before_it_is_found(files: Path) -> None:
    tokenizer = byte_tokenizer([(":", "Ġ"), (":Ġ", "A"), (":Ġ", "B")])
    [subject] = read_subjects("mmlu", files / "mmlu")
    asked = knowledge.encode(tokenizer, subject, subject.questions[0], 0, 2048)
    assert isinstance(asked, knowledge.Asked)
    assert tokenizer.decode(asked.prompt).endswith("Answer")
    assert [tokenizer.decode(ids) for ids in asked.letters] == [": A", ": B", ": C", ": D"]


def test_letters_that_are_one_token_are_counted_not_guessed(files: Path) -> None:
    vocabulary = {"<unk>": 0, "<end>": 1}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>")), eos_token="<end>"
    )
    [subject] = read_subjects("mmlu", files / "mmlu")
    replies = ask(llama(2), tokenizer, [subject], 0)
    assert [reply.reason for reply in replies] == ["letters_alike"] * 2
    assert knowledge.summarise(replies, 0)["letters_alike"] == 2


def test_what_does_not_fit_gets_fewer_examples_and_then_counts_as_too_long(files: Path) -> None:
    tokenizer, model = byte_tokenizer([]), llama()
    [subject] = read_subjects("mmlu", files / "mmlu")
    sizes = [len(tokenizer(subject.prompt(subject.questions[0], shots))["input_ids"]) + 1 for shots in (0, 1, 2)]
    for context, shots, reason in ((sizes[2], 2, None), (sizes[2] - 1, 1, None), (sizes[1] - 1, 0, None), (sizes[0] - 1, 0, "too_long")):
        reply = ask(model, tokenizer, [subject], 2, context)[0]
        assert (reply.shots, reply.reason) == (shots, reason)
    mixed = Subject("s", "s", "none", "mmlu", subject.shots, [subject.questions[0], Question("long", "x" * 60, ("1", "2", "3", "4"), "A")])
    figures = knowledge.summarise(ask(model, tokenizer, [mixed], 2, sizes[2]), 2)
    assert (figures["fewer_shots"], figures["too_long"], figures["questions"]) == (1, 0, 2)


def test_bad_rows_are_counted_by_reason(tmp_path: Path) -> None:
    good = ("What?", "1", "2", "3", "4", "A")
    bad = [("", *good[1:]), (*good[:4], "", "A"), (*good[:5], "E"), (*good[:5], ""), good[:4]]
    write(tmp_path, "mmlu", "test", "s", [good, *bad])
    write(tmp_path, "ceval", "val", "s", [good, *bad])
    for layout in ("mmlu", "ceval"):
        [subject] = read_subjects(layout, tmp_path / layout)
        assert [question.text for question in subject.questions] == ["What?"]
        assert subject.skipped == {"no_question": 1, "missing_option": 2, "bad_key": 2}
        assert subject.shots == []  # no dev file: asked without examples


def test_rows_of_other_shapes_are_not_bent_into_four_options(tmp_path: Path) -> None:
    """Five options, a leading number and an unquoted comma are counted; a small letter and commas at a line's end are read."""
    files = {
        "mmlu/test/a_test.csv": "q,1,2,3,4,c,\nq,1,2,3,4,5,C\n0,q,A,B,C,D,C\n",
        "ceval/val/a_val.csv": "id,question,A,B,C,D,E,answer\n0,q,1,2,3,4,,c\n1,q,1,2,3,4,5,A\n2,q,1,2,3,4,,A,more\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    for layout in ("mmlu", "ceval"):
        [subject] = read_subjects(layout, tmp_path / layout)
        assert subject.questions == [Question("0", "q", ("1", "2", "3", "4"), "C")]
        assert subject.skipped == {"more_options": 2}


def test_a_set_without_questions_is_no_silent_zero(tmp_path: Path) -> None:
    def said() -> dict[str, int | None]:
        problems = Problems()
        one = KnowledgeSet(name="k", layout="mmlu", folder=str(tmp_path / "mmlu"), shots=0)
        Material(Inputs({"knowledge/k": one.folder}), EvaluationSettings(knowledge=[one]), problems)
        return {problem["text"]: problem["count"] for problem in problems.listed}

    write(tmp_path, "mmlu", "test", "empty", [])
    write(tmp_path, "mmlu", "test", "broken", [("What?", "1", "2", "3", "4", "E")])
    assert said() == {"rows left out: bad_key": 1, "no question that can be asked: it was not measured": None}
    assert knowledge.summarise([], 0)["accuracy"] is None
    write(tmp_path, "mmlu", "test", "good", [("What?", "1", "2", "3", "4", "A")])
    assert said() == {"rows left out: bad_key": 1, "subjects without a question that can be asked": 2}


def test_the_published_files_with_all_their_oddities(tmp_path: Path) -> None:
    """As they are unpacked: byte order marks, CRLF, quoted commas, quotes and line breaks, explanations, answers that pandas takes for none."""
    ceval = {
        "dev/law_dev.csv": '\ufeffid,question,A,B,C,D,answer,explanation\r\n0,"下列,哪项",一,"二,三",四,五,B,"1. 先看题目，\n2. 选B"\r\n',
        "val/law_val.csv": '\ufeffid,question,A,B,C,D,answer\r\n0,"他说""是"",对吗？\n（单选）",对,错,N/A,None,A\r\n1,空,,乙,丙,丁,B\r\n',
        "val/._law_val.csv": "\x00\x05\x16\x07 no table",
        "val/physician_val.csv": "id,question,A,B,C,D,answer\n7,问,1,2,3,4, C \n",
        "test/law_test.csv": "id,question,A,B,C,D\n0,问,1,2,3,4\n",
    }
    mmlu = {
        "dev/anatomy_dev.csv": 'question,A,B,C,D,answer\n"Which, of ""these"",\nis a bone?",femur,0.50,None,"a, b",A\n',
        "test/anatomy_test.csv": '"Rows, with commas","1,000",2,3,4,D\n\nPlain,a,b,c,d,B\n',
        "val/anatomy_val.csv": "not,to,be,asked,now,A\n",
        "auxiliary_train/race.csv": "whatever\n",
    }
    for layout, files in (("ceval", ceval), ("mmlu", mmlu)):
        for name, text in files.items():
            path = tmp_path / layout / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
    law, physician = read_subjects("ceval", tmp_path / "ceval")
    assert [(one.name, one.title) for one in (law, physician)] == [("law", "法学"), ("physician", "医师资格")]
    assert law.questions == [Question("0", '他说"是",对吗？\n（单选）', ("对", "错", "N/A", "None"), "A")]
    assert law.shots == [Question("0", "下列,哪项", ("一", "二,三", "四", "五"), "B")] and law.skipped == {"missing_option": 1}
    assert physician.questions == [Question("7", "问", ("1", "2", "3", "4"), "C")] and physician.shots == []
    [anatomy] = read_subjects("mmlu", tmp_path / "mmlu")
    assert [(one.text, one.options, one.answer) for one in anatomy.questions] == [
        ("Rows, with commas", ("1,000", "2", "3", "4"), "D"), ("Plain", ("a", "b", "c", "d"), "B"),
    ]  # fmt: skip
    assert anatomy.shots == [Question("0", 'Which, of "these",\nis a bone?', ("femur", "0.50", "None", "a, b"), "A")] and not anatomy.skipped
    assert len(missing_subjects("ceval", [law, physician])) == 50 and "accountant" in missing_subjects("ceval", [law])
    problems = Problems()
    one = KnowledgeSet(name="c", layout="ceval", folder=str(tmp_path / "ceval"), shots=1)
    Material(Inputs({"knowledge/c": one.folder}), EvaluationSettings(knowledge=[one]), problems)
    said = {problem["text"].partition(":")[0]: problem["count"] for problem in problems.listed}
    assert said == {"rows left out": 1, "subjects with fewer than 1 examples in dev": 1, f"published subjects that are not in {one.folder}": 50}
    assert missing_subjects("mmlu", [Subject("river", "river", "none", "mmlu")]) == []  # no published set at all


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"val/SUBJECT_val\.csv"):
        read_subjects("ceval", tmp_path)
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "s_val.csv").write_text("What?,1,2,3,4,A\n")
    with pytest.raises(BadInput, match="columns question, B, C, D, answer are missing"):
        read_subjects("ceval", tmp_path)
    (tmp_path / "val" / "s_val.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="UTF-8"):
        read_subjects("mmlu", tmp_path)


def test_the_published_subjects_are_known() -> None:
    assert {layout: len(names) for layout, names in SUBJECTS.items()} == {"ceval": 52, "mmlu": 57}
    assert SUBJECTS["ceval"]["accountant"] == ("注册会计师", "other")


def test_accuracy_by_hand() -> None:
    def reply(category: str, answer: str, best: int) -> knowledge.Reply:
        logprobs = tuple(math.log(0.4 if place == best else 0.1) for place in range(4))
        return knowledge.Reply(Subject(category, category, category, "mmlu"), Question("1", "?", ("1", "2", "3", "4"), answer), 0, logprobs)

    replies = [reply("a", "A", 0), reply("a", "B", 0), reply("a", "C", 2), reply("b", "D", 3)]
    figures = knowledge.summarise(replies, 0)
    assert figures["accuracy"] == 0.75 and figures["right"] == 3
    assert figures["mean_of_subjects"] == pytest.approx((2 / 3 + 1) / 2)
    both = figures["mean_of_subjects_interval"]
    assert both[0] < 5 / 6 < both[1] and both != figures["interval"]  # by hand in the tests of rlhf_core.measures.statistics
    assert knowledge.summarise([], 0)["mean_of_subjects"] is None
    assert figures["letter_probability"] == pytest.approx(0.7)
    assert figures["categories"]["b"]["accuracy"] == 1.0
    low, high = figures["interval"]
    assert low < 0.75 < high  # Wilson's bounds are held in the tests of rlhf_core.measures.statistics
