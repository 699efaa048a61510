"""The server's memory: old flow runs leave its database, so that it does not grow for ever, and nothing lost is shown as Running.

python -m flows.housekeeping --keep-days 90
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

from prefect import flow, get_client, get_run_logger
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from pydantic import Field

from flows import command_line, local, lost_tasks, waiting_runs

FINAL = [StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED]
PAGE = 200  # the API's own limit


@flow(name="housekeeping", flow_run_name="keep {keep_days} days")
def housekeeping(keep_days: Annotated[int, Field(ge=0, le=command_line.MAX_DAYS)] = 90) -> int:
    """Delete flow runs that ended more than `keep_days` days ago, with their task runs, states and logs. Returns how many.

    Task runs that a lost worker left Running are Crashed, as their flow runs are; a run that waits for a person and was taken for lost is
    suspended again. Artifacts of the store are not touched; `python -m flows.prune` is for them.

    Args:
        keep_days: days after its end that a flow run is kept.
    """
    before = datetime.now(UTC) - timedelta(days=keep_days)
    ended = FlowRunFilter(
        end_time=FlowRunFilterEndTime(before_=before), state=FlowRunFilterState(type=FlowRunFilterStateType(any_=FINAL))
    )
    gone = 0
    with get_client(sync_client=True) as client:
        while page := client.read_flow_runs(flow_run_filter=ended, limit=PAGE):
            for old in page:
                try:
                    client.delete_flow_run(old.id)
                except ObjectNotFound:  # went with its parent
                    continue
            gone += len(page)
        waiting = waiting_runs.suspend_again(client)
        ended_tasks = lost_tasks.end(client)
    said = f"{gone} flow runs that ended before {before:%Y-%m-%d} are gone; {ended_tasks} lost task runs are ended"
    get_run_logger().info(said + (f"; {waiting} runs taken for lost wait for a person again" if waiting else ""))
    return gone


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.housekeeping", description=housekeeping.__doc__)
    parser.add_argument("--keep-days", type=command_line.days, default=90, help="flow runs that ended longer ago go (default: 90)")
    given = parser.parse_args(arguments)
    if PREFECT_API_URL.value():
        try:
            local.require_server()
        except ConnectionError as error:
            command_line.refuse(str(error))
    housekeeping(int(given.keep_days))
    return 0


if __name__ == "__main__":
    sys.exit(main())
