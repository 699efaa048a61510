"""Runs inside TRL's own environment (benchmarks/ppo.py makes it): one PPO iteration of TRL 1.12, with what goes into and
comes out of its formulas, as JSON for tests/rlhf_core/test_trl_oracle.py.

    ~/.cache/crawl2chat/peers/trl-1.12/bin/python benchmarks/_trl_oracle.py > tests/rlhf_core/trl_oracle.json
"""

import contextlib
import json
import sys
import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

PROMPTS, NEW, WORDS = 4, 6, 12
seen = {}


def watch(name):
    plain = getattr(ppo_trainer, name)

    def watched(*arguments, **more):
        result = plain(*arguments, **more)
        first = result[0] if isinstance(result, tuple) else result
        tensors = [value for value in arguments if isinstance(value, torch.Tensor)]
        scores = result[1] if isinstance(result, tuple) else None
        seen.setdefault(name, []).append((tensors, first, scores))
        return result

    setattr(ppo_trainer, name, watched)


def main():
    torch.manual_seed(3)
    words = {word: i for i, word in enumerate(["<pad>", "<end>", *(f"w{i}" for i in range(WORDS - 2))])}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")),  # noqa: S106
        pad_token="<pad>", eos_token="<end>", padding_side="left",  # noqa: S106
    )  # fmt: skip
    shape = LlamaConfig(
        vocab_size=WORDS, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_labels=1,
        pad_token_id=0, eos_token_id=1, bos_token_id=None, initializer_range=0.4,
    )  # fmt: skip
    policy, reference = LlamaForCausalLM(shape), LlamaForCausalLM(shape)
    reward, value = LlamaForSequenceClassification(shape), LlamaForSequenceClassification(shape)
    prompts = Dataset.from_list([{"input_ids": [2 + i, 3, 4]} for i in range(PROMPTS)])
    config = PPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True, seed=1,
        per_device_train_batch_size=PROMPTS, gradient_accumulation_steps=1, num_mini_batches=1, num_ppo_epochs=2,
        total_episodes=PROMPTS, response_length=NEW, local_rollout_forward_batch_size=PROMPTS, temperature=0.7, bf16=False,
        learning_rate=5e-2, lr_scheduler_type="constant", kl_coef=0.05, missing_eos_penalty=1.0, gamma=0.9, lam=0.8,
        cliprange=0.2, cliprange_value=0.2, stop_token="eos",  # noqa: S106
        num_sample_generations=0, gradient_checkpointing=False,
    )  # fmt: skip
    logs = []
    for name in ("get_reward", "selective_log_softmax", "masked_whiten", "masked_mean"):
        watch(name)
    trainer = PPOTrainer(
        args=config, processing_class=tokenizer, model=policy, ref_model=reference, reward_model=reward, value_model=value,
        train_dataset=prompts, eval_dataset=prompts,
    )  # fmt: skip
    trainer.log = logs.append
    with contextlib.redirect_stdout(sys.stderr):
        trainer.train()
    (_, values, _), (_, _, scores) = seen["get_reward"][:2]
    logprobs, ref, first, second = (result for _, result, _ in seen["selective_log_softmax"])
    # each epoch has an order of its own: the labels tell which row is which
    orders = [arguments[1] for arguments, _, _ in seen["selective_log_softmax"][2:]]
    (advantages, mask), white, _ = seen["masked_whiten"][0]
    # of each epoch: value loss, its clipped share, policy loss, its clipped share
    means = [float(result.detach()) for _, result, _ in seen["masked_mean"]][-8:]
    found = {
        "settings": {"kl_coef": 0.05, "gamma": 0.9, "lam": 0.8, "temperature": 0.7, "penalty": 1.0, "clip": 0.2},
        "labels": seen["selective_log_softmax"][0][0][1], "logits": seen["selective_log_softmax"][0][0][0],
        "logprobs": logprobs, "ref_logprobs": ref, "values": values[:, 2:-1].squeeze(-1), "scores": scores,
        "mask": mask, "advantages": advantages, "whitened": white, "new_logprobs": [first, second], "new_labels": orders, "means": means,
        "log": {name: value for name, value in logs[0].items() if isinstance(value, float)},
    }  # fmt: skip
    plain = {name: as_list(value) for name, value in found.items()}
    print(json.dumps(plain))


def as_list(value):
    if isinstance(value, torch.Tensor):
        return value.detach().tolist()
    return [as_list(item) for item in value] if isinstance(value, list) else value


main()
