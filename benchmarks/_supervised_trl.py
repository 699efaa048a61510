"""Runs inside TRL's own environment: SFT or reward steps on given tokens; prints one JSON line."""

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
from trl import RewardConfig, RewardTrainer, SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    def __init__(self):
        self.ends, self.busy, self.losses = [], [], []

    def on_step_end(self, args, state, control, **_):
        self.ends.append(time.perf_counter())
        self.busy.append(time.process_time())

    def on_log(self, args, state, control, logs=None, **_):
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))


def main():
    options = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    model_folder, reward = options["folder"] + "/model", options["kind"] == "reward"
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    with open(options["folder"] + "/tokens.json", encoding="utf-8") as file:
        data = Dataset.from_list(json.load(file))
    common = {
        "output_dir": options["out"], "use_cpu": True, "bf16": False, "fp16": False, "report_to": "none", "save_strategy": "no",
        "disable_tqdm": True, "per_device_train_batch_size": options["batch"], "max_steps": options["steps"],
        "learning_rate": 1e-3, "lr_scheduler_type": "constant", "weight_decay": 0.0, "max_grad_norm": 1.0,
        "max_length": options["length"], "gradient_checkpointing": False, "logging_steps": 1, "seed": 1,
        "dataloader_pin_memory": False,
    }  # fmt: skip
    clock = Clock()
    if reward:
        model = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=1, dtype=torch.float32)
        model.config.pad_token_id = tokenizer.pad_token_id
        args = RewardConfig(disable_dropout=True, **common)
        trainer = RewardTrainer(model=model, args=args, processing_class=tokenizer, train_dataset=data, callbacks=[clock])
    else:
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        args = SFTConfig(completion_only_loss=True, **common)
        trainer = SFTTrainer(model=model, args=args, processing_class=tokenizer, train_dataset=data, callbacks=[clock])
    trainer.train()
    seconds, cpu = ([b - a for a, b in itertools.pairwise(times[:-1])] for times in (clock.ends, clock.busy))
    with open("/proc/self/status", encoding="ascii") as file:  # not ru_maxrss, which counts what the parent held
        peak = int(file.read().split("VmHWM:", 1)[1].split()[0]) / 1024
    print("\n" + json.dumps({"seconds": seconds, "cpu_seconds": cpu, "losses": clock.losses, "peak_mb": peak}))


if __name__ == "__main__":
    main()
