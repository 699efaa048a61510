"""SFT beside TRL 1.16: `python -m benchmarks.sft [--repeats N] [--steps N] [--only tiny|small]`. See supervised.py."""

from __future__ import annotations

from benchmarks.supervised import main

if __name__ == "__main__":
    main("sft", __doc__)
