"""Dates as crawls write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from data.text import clean_text

# Seconds since 1970 of nine or ten digits, or milliseconds; years and hours of ten digits do not begin with 10 to 18.
_EPOCH = re.compile(r"(?:\d{9}|1[0-8]\d{8}|1\d{12})(?:\.\d*)?", re.ASCII)


def iso_date(date: str | None) -> str | None:
    """`date` as YYYY-MM-DDTHH:MM:SSZ; None where it is no date.

    ISO 8601, digits as in ARC files (the year first, at least to the day), or seconds or milliseconds since 1970.
    """
    if not date:
        return None
    try:
        moment = _moment(clean_text(date).strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(text: str) -> datetime:
    if _EPOCH.fullmatch(text):
        return datetime.fromtimestamp(float(text) / (1000 if len(text.partition(".")[0]) == 13 else 1), UTC)
    if text[:8].isdigit() and text.isdigit():
        return datetime.strptime(text[:14].ljust(14, "0"), "%Y%m%d%H%M%S")
    return datetime.fromisoformat(text)
