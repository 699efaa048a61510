"""Old artifacts leave the store; what a kept model descends from stays.

python -m flows.prune --store artifacts --older-than 30            what would go
python -m flows.prune --store artifacts --older-than 30 --yes      it goes
"""

from __future__ import annotations

import argparse
import sys
from datetime import timedelta

from tasks.store import pruning
from tasks.store.artifacts import Store


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m flows.prune",
        description="Remove artifacts older than some days. Kept, with all they descend from: younger artifacts, every model that is "
        "or was in service, and what --keep names. Without --yes it only says what would go.",
    )
    parser.add_argument("--store", default="artifacts", metavar="URL", help="the artifact store (default: artifacts)")
    parser.add_argument("--older-than", type=float, required=True, metavar="DAYS", help="artifacts made longer ago than this")
    parser.add_argument("--keep", action="append", default=[], metavar="STAGE/FINGERPRINT", help="and what it descends from; repeatable")
    parser.add_argument("--yes", action="store_true", help="remove them")
    given = parser.parse_args(arguments)
    store = Store(given.store)
    try:
        plan = pruning.plan(store, timedelta(days=given.older_than), given.keep)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for artifact in plan.remove:
        print(f"{artifact.stage}/{artifact.fingerprint}")
    if given.yes:
        pruning.prune(store, plan)
    verb = "removed" if given.yes else "would go (add --yes)"
    print(f"{len(plan.remove)} artifacts, {plan.bytes / 1e6:,.1f} MB {verb}; {len(plan.keep)} stay")
    return 0


if __name__ == "__main__":
    sys.exit(main())
