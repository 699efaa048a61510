"""Dates as crawls write them."""

from __future__ import annotations

from datetime import UTC, datetime

from data.text import clean_text


def iso_date(date: str | None) -> str | None:
    """`date` (ISO 8601, or an ARC file's 14 digits) as YYYY-MM-DDTHH:MM:SSZ; None where it is no date."""
    if not date:
        return None
    date = date.strip()
    try:
        if date[:8].isdigit() and date.isdigit():
            moment = datetime.strptime(date[:14].ljust(14, "0"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        else:
            moment = datetime.fromisoformat(clean_text(date))
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
