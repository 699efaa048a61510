"""A URL as two crawls of one page would both write it."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

_PORTS = {"http": 80, "https": 443}
_TRACKING = re.compile(
    r"^(?:utm_\w+|fbclid|gclid|gclsrc|gbraid|wbraid|dclid|msclkid|yclid|ttclid|twclid|igshid|igsh|mc_[ce]id|_ga|_gl|_hs(?:enc|mi)"
    r"|mkt_tok|ref_src|spm|scm|wt_\w+|ocid|cmpid|s_cid|vero_id|oly_(?:enc|anon)_id|phpsessid|jsessionid|aspsessionid\w*)$",
    re.IGNORECASE,
)
_SESSION = re.compile(r"^(?:sid|sessionid)=\w{16,}$", re.IGNORECASE | re.ASCII)  # a short one is a page's number: ?name=News&sid=123
_SESSION_PATH = re.compile(r";(?:jsessionid|phpsessid|sid)=[^/?#;]*", re.IGNORECASE)
_ESCAPE = re.compile(r"%[0-9a-fA-F]{2}")
_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_HOST = re.compile(r"[a-z0-9._:-]*")


def normalise_url(url: str) -> str | None:
    """The normal form of `url`; None where it is no http(s) URL.

    Lower-case scheme and host (IDN in punycode), no default port, user, fragment or tracking parameter, escapes of
    unreserved characters undone (RFC 3986, 6.2.2), parameters in order of their names, no slash at the end.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
        host = ascii_host(parts.hostname or "")
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not host:
        return None
    if port is not None and port != _PORTS[scheme]:
        host = f"{host}:{port}"
    path = parts.path
    if ";" in path:
        path = _SESSION_PATH.sub("", path)
    path = _escapes(_without_dots(path)).rstrip("/") or "/"
    return urlunsplit(SplitResult(scheme, host, path, _query(parts.query), ""))


def host_of(url: str) -> str:
    """The host of a normalised URL, without its port; "" of anything else."""
    parts = url.split("/", 3)
    if len(parts) < 3 or parts[1]:
        return ""
    host = parts[2]
    return host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]


def ascii_host(host: str) -> str:
    """Lower case, IDN in punycode (IDNA 2003, as browsers' addresses have long been written). Raises ValueError."""
    host = host.rstrip(".").lower()
    if not host.isascii():
        # The codec writes other scripts' full stops as ".", lower case again where it maps a sign to a capital.
        host = host.encode("idna").decode("ascii").rstrip(".").lower()
    if not _HOST.fullmatch(host):
        raise ValueError(f"no host name: {host!r}")
    return f"[{host}]" if ":" in host else host


def _without_dots(path: str) -> str:
    if "/." not in path:
        return path
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if len(kept) > 1:
                kept.pop()
        elif part != ".":
            kept.append(part)
    return "/".join(kept)


def _escapes(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        character = chr(int(match.group()[1:], 16))
        return character if character in _SAFE else match.group().upper()

    if "%" in text:
        text = _ESCAPE.sub(replace, text)
    as_it_is = text.isascii() and text.isprintable() and " " not in text
    return text if as_it_is else quote(text, safe="!#$%&'()*+,/:;=?@[]~")


def _query(query: str) -> str:
    if not query:
        return ""
    parts = _escapes(query).split("&")  # before they are sorted: crawls write the same letter in two ways
    return "&".join(sorted(part for part in parts if part and not _TRACKING.match(part.split("=", 1)[0]) and not _SESSION.match(part)))
