"""Where a PPO step's processor time goes, and what its floor is: `python -m benchmarks.ppo_profile [opt|llama]`.

The settings of benchmarks/ppo.py, one thread. Milliseconds of processor time a step for each part (parts contain parts),
medians are not needed: processor time hardly depends on who else works here, but caches are shared. The floor is what
the matrix products alone take in one step, attention's included, as torch's profiler counts them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks import peers, ppo
from rlhf_core.engine import Engine
from rlhf_core.generation.sampler import OwnSampler
from rlhf_core.rewards.scoring import Scoring
from rlhf_core.settings import Job
from rlhf_core.stages import on_policy
from rlhf_core.stages.policy_gradient import PolicyGradient
from rlhf_core.train import train

STEPS = 10
PARTS: list[tuple[Any, str, str]] = [
    (PolicyGradient, "step", "step"),
    (on_policy.OnPolicy, "roll", "  rollout"),
    (OwnSampler, "answers", "    generation"),
    (Scoring, "raw", "    reward model"),
    (on_policy.OnPolicy, "logprobs", "  reference, one forward pass"),
    (Engine, "__call__", "  forward passes that train"),
    (Engine, "backward", "  backward passes"),
    (Engine, "step", "  optimizers"),
    (on_policy.OnPolicy, "figures", "  figures"),
]
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "linear", "_scaled_dot_product", "mkldnn_linear", "_linear_pointwise")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", nargs="?", choices=list(ppo.SETTINGS), default="opt")
    name = parser.parse_args().setting
    spent: dict[str, float] = defaultdict(float)
    products: dict[str, float] = {}
    for owner, attribute, label in PARTS:
        _watch(owner, attribute, label, spent)
    _profile_last(products, spent)
    with tempfile.TemporaryDirectory() as folder:
        ppo.prepare(Path(folder), name)
        run, peers.run_json = peers.run_json, _in_this_process
        try:
            ppo.ours(Path(folder), name, STEPS, 1)
        finally:
            peers.run_json = run
    steps = STEPS - 2  # the first warms up, the last is profiled
    rows = [[label, 1000 * spent[label] / steps, spent[label] / spent["step"]] for _, _, label in PARTS]
    rows.append(["floor: matrix products alone", products["products"], products["share"]])
    print(peers.table([f"{name}: part", "ms a step", "share"], rows))


def _in_this_process(command: list[str], **_: str) -> dict[str, Any]:
    train(Job.model_validate(json.loads(Path(command[-1]).read_text())))
    return {}


def _watch(owner: Any, attribute: str, label: str, spent: dict[str, float]) -> None:
    plain = getattr(owner, attribute)

    def timed(*arguments: Any, **more: Any) -> Any:
        began = time.process_time()
        result = plain(*arguments, **more)
        spent[label] += time.process_time() - began
        return result

    setattr(owner, attribute, timed)


def _profile_last(products: dict[str, float], spent: dict[str, float]) -> None:
    """Forget the first step, and count the last one's products under torch's profiler."""
    step = PolicyGradient.step

    def counted(self: Any, number: int, share: float) -> dict[str, float]:
        if number < STEPS:
            figures = step(self, number, share)
            if number == 1:
                spent.clear()
            return figures
        kept = dict(spent)
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            figures = step(self, number, share)
        spent.update(kept)
        events = seen.key_averages()
        own = {event.key.rpartition("::")[2]: event.self_cpu_time_total for event in events}
        total = sum(own.values())
        products["share"] = sum(t for op, t in own.items() if op.startswith(PRODUCTS)) / total
        products["products"] = 1000 * products["share"] * spent["step"] / (STEPS - 2)
        return figures

    PolicyGradient.step = counted  # type: ignore[method-assign]
    on_policy.OnPolicy.evaluate = lambda self: {}  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main())
