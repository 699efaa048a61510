"""Old artifacts leave the store, what a kept model descends from stays; what old runs left on this machine goes.

python -m flows.prune --store artifacts --older-than 30               what would go
python -m flows.prune --store artifacts --older-than 30 --yes         it goes
python -m flows.prune --store s3://b/store --older-than 7 --here      of a worker's machine alone: drafts and copies
"""

from __future__ import annotations

import argparse
import sys
from datetime import timedelta

from flows import command_line
from tasks.store import pruning


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m flows.prune",
        description="Remove artifacts older than some days. Kept, with all they descend from: younger artifacts, every model that is "
        "or was in service, and what --keep names. On this machine unfinished drafts and copies of remote artifacts go that nobody "
        "has used for so long. Without --yes it only says what would go.",
    )
    parser.add_argument("--store", default="artifacts", metavar="URL", help="the artifact store (default: artifacts)")
    parser.add_argument("--older-than", type=command_line.days, required=True, metavar="DAYS", help="artifacts made longer ago than this")
    parser.add_argument("--keep", action="append", default=[], metavar="STAGE/FINGERPRINT", help="and what it descends from; repeatable")
    parser.add_argument("--here", action="store_true", help="leave the store as it is: only this machine's drafts and copies")
    parser.add_argument("--yes", action="store_true", help="remove them")
    given = parser.parse_args(arguments)
    age = timedelta(days=given.older_than)
    verb = "removed" if given.yes else "would go (add --yes)"
    try:
        store = command_line.existing_store(given.store)
        if not given.here:
            plan = pruning.plan(store, age, given.keep)
            for artifact in plan.remove:
                print(f"{artifact.stage}/{artifact.fingerprint}")
            if given.yes:
                pruning.prune(store, plan)
            print(f"{len(plan.remove)} artifacts, {plan.bytes / 1e6:,.1f} MB {verb}; {len(plan.keep)} stay")
        left = pruning.leftovers(store, age)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.yes:
        pruning.clear(left)
    print(f"on this machine {len(left)} drafts and copies, {sum(one.bytes for one in left) / 1e6:,.1f} MB {verb}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
