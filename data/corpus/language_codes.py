"""Names of languages: models say them in ISO 639-1 ("en"), 639-3 ("eng") or with a script ("eng_Latn")."""

from __future__ import annotations

from functools import lru_cache

# ISO 639-3 -> 639-1 of the languages that crawls are made of; the varieties of written Chinese count as one.
_SHORT = {
    "afr": "af", "amh": "am", "ara": "ar", "arb": "ar", "arz": "ar", "azj": "az", "aze": "az", "bel": "be", "bul": "bg", "ben": "bn",
    "bos": "bs", "cat": "ca", "ces": "cs", "cym": "cy", "dan": "da", "deu": "de", "ell": "el", "eng": "en", "epo": "eo", "spa": "es",
    "est": "et", "ekk": "et", "eus": "eu", "fas": "fa", "pes": "fa", "fin": "fi", "fra": "fr", "gle": "ga", "glg": "gl", "guj": "gu",
    "heb": "he", "hin": "hi", "hrv": "hr", "hun": "hu", "hye": "hy", "ind": "id", "isl": "is", "ita": "it", "jpn": "ja", "kat": "ka",
    "kaz": "kk", "khm": "km", "kan": "kn", "kor": "ko", "kir": "ky", "lat": "la", "lao": "lo", "lit": "lt", "lav": "lv", "lvs": "lv",
    "mkd": "mk", "mal": "ml", "mon": "mn", "khk": "mn", "mar": "mr", "msa": "ms", "zsm": "ms", "mlt": "mt", "mya": "my", "nep": "ne",
    "npi": "ne", "nld": "nl", "nor": "no", "nob": "no", "nno": "nn", "pan": "pa", "pol": "pl", "pus": "ps", "por": "pt", "ron": "ro",
    "rus": "ru", "sin": "si", "slk": "sk", "slv": "sl", "som": "so", "sqi": "sq", "srp": "sr", "swe": "sv", "swa": "sw",
    "swh": "sw", "tam": "ta", "tel": "te", "tha": "th", "tgl": "tl", "fil": "tl", "tur": "tr", "ukr": "uk", "urd": "ur", "uzb": "uz",
    "uzn": "uz", "vie": "vi", "zho": "zh", "cmn": "zh", "yue": "zh", "wuu": "zh", "lzh": "zh",
}  # fmt: skip

_KNOWN = frozenset(_SHORT.values())


@lru_cache(maxsize=4096)
def language_code(label: str) -> str:
    """The code that settings and labels use for a fastText label: "__label__cmn_Hani" and "__label__zh-cn" are "zh"."""
    name = label.removeprefix("__label__").replace("-", "_").split("_")[0].lower()
    return _SHORT.get(name, name)


def is_language_code(code: str) -> bool:
    """Whether `code` is what `language_code` gives for a language of the table."""
    return code in _KNOWN
