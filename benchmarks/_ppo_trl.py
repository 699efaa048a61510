"""Runs inside TRL's own environment: PPO iterations on given models and prompts; prints one JSON line."""

import itertools
import json
import sys
import time

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer


class Clock(TrainerCallback):
    """When each iteration ended, and what it logged."""

    def __init__(self):
        self.ends, self.busy, self.logs = [], [], []

    def on_step_end(self, args, state, control, **_):
        self.ends.append(time.perf_counter())
        self.busy.append(time.process_time())

    def on_log(self, args, state, control, logs=None, **_):
        self.logs.append(dict(logs or {}))


def main():
    options = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    dtype = torch.bfloat16 if options["dtype"] == "bf16" else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(options["policy"], padding_side="left")
    policy, reference = (AutoModelForCausalLM.from_pretrained(options["policy"], dtype=dtype) for _ in range(2))
    reward, value = (
        AutoModelForSequenceClassification.from_pretrained(options["reward"], num_labels=1, dtype=dtype) for _ in range(2)
    )
    with open(options["prompts"], encoding="utf-8") as file:
        prompts = Dataset.from_list([{"input_ids": ids} for ids in json.load(file)])
    config = PPOConfig(
        output_dir=options["out"], use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True, seed=options["seed"],
        per_device_train_batch_size=options["batch"], gradient_accumulation_steps=1, num_mini_batches=1,
        num_ppo_epochs=options["epochs"], total_episodes=options["batch"] * options["steps"], bf16=options["dtype"] == "amp",
        response_length=options["new_tokens"], local_rollout_forward_batch_size=options["batch"], temperature=1.0,
        learning_rate=options["rate"], lr_scheduler_type="constant", kl_coef=options["kl_coef"], missing_eos_penalty=None,
        stop_token="eos",  # noqa: S106
        num_sample_generations=0, gradient_checkpointing=False,
    )  # fmt: skip
    clock = Clock()
    trainer = PPOTrainer(
        args=config, processing_class=tokenizer, model=policy, ref_model=reference, reward_model=reward, value_model=value,
        train_dataset=prompts, eval_dataset=prompts.select(range(options["batch"])), callbacks=[clock],
    )  # fmt: skip
    trainer.train()
    seconds, busy = ([b - a for a, b in itertools.pairwise(t)] for t in (clock.ends, clock.busy))
    scores = [log["objective/scores"] for log in clock.logs if "objective/scores" in log]
    kls = [log["objective/kl"] for log in clock.logs if "objective/kl" in log]
    with open("/proc/self/status", encoding="ascii") as file:  # not ru_maxrss, which counts what the parent held
        peak = int(file.read().split("VmHWM:", 1)[1].split()[0]) / 1024
    print(json.dumps({"seconds": seconds, "cpu_seconds": busy, "scores": scores, "kl": kls, "peak_mb": peak}))


main()
