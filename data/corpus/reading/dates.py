"""Dates as crawls write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from data.text import clean_text

# Seconds since 1970 of nine or ten digits, or milliseconds; years and hours of ten digits do not begin with 10 to 18.
_EPOCH = re.compile(r"(?:\d{9}|1[0-8]\d{8}|1\d{12})(?:\.\d*)?", re.ASCII)


# A year, a month or a day as they are written besides ISO 8601: 2024/5/1, 2024-05, 2024年5月1日 12:00, 2019. Days or months first are ambiguous.
_YEAR_FIRST = re.compile(
    r"(?:(?P<year>\d{4})(?:[-/](?P<month>\d{1,2})(?:[-/](?P<day>\d{1,2}))?|\.(?P<month_2>\d{1,2})\.(?P<day_2>\d{1,2})"
    r"|年(?P<month_3>\d{1,2})月(?:(?P<day_3>\d{1,2})日)?)|(?P<year_2>(?:19|20)\d\d)年?)(?:[T ]?(?P<time>\d\d:\d\d.*))?",
    re.ASCII,
)
_INTERNET_MESSAGE = re.compile(r"(?:[A-Za-z]{3,9},? )?(?:\d{1,2}[ -][A-Za-z]{3}[ -]\d{2,4}|[A-Za-z]{3} +\d{1,2}) \d\d:.*", re.ASCII)  # RFC 822, HTTP, asctime


def iso_date(date: str | None) -> str | None:
    """`date` as YYYY-MM-DDTHH:MM:SSZ; None where it is no date.

    ISO 8601 and what else begins with the year, digits as in ARC files (at least to the day), RFC 822, or seconds or milliseconds since 1970.
    Of a year or a month its first moment.
    """
    if not date:
        return None
    try:
        moment = _moment(clean_text(date).strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"  # strftime writes the year 999 with three figures


def _moment(text: str) -> datetime:
    if _EPOCH.fullmatch(text):
        return datetime.fromtimestamp(float(text) / (1000 if len(text.partition(".")[0]) == 13 else 1), UTC)
    if len(text) >= 8 and text.isdigit():
        return datetime.strptime(text[:14].ljust(14, "0"), "%Y%m%d%H%M%S")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return _as_written(text)


def _as_written(text: str) -> datetime:
    if _INTERNET_MESSAGE.fullmatch(text):
        return parsedate_to_datetime(text)
    found = _YEAR_FIRST.fullmatch(text)
    if not found:
        raise ValueError(text)
    year, month, day = (next((part for name in (key, f"{key}_2", f"{key}_3") if (part := found.groupdict().get(name))), "1") for key in ("year", "month", "day"))
    return datetime.fromisoformat(f"{year}-{month:0>2}-{day:0>2}" + (f"T{found['time']}" if found["time"] else ""))
