"""The order of things, and nothing else."""

import os

# Prefect reads these when it is imported; on a closed network its telemetry would only wait for time-outs.
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
