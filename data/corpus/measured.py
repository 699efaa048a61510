"""Which labels the documents of a run will have: what its stages measure, known before any runs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from data.corpus.buckets import BUCKET_LABELS
from data.corpus.decontamination import CONTAMINATION_LABELS
from data.corpus.duplicates.copies import EARLIER
from data.corpus.duplicates.dedup import DUPLICATE_LABELS
from data.corpus.language import LANGUAGE_LABELS
from data.corpus.learned.classifiers import classifier_schema
from data.corpus.lines import LINE_LABELS
from data.corpus.perplexity import PERPLEXITY_LABELS
from data.corpus.quality import QUALITY_LABELS
from data.corpus.sensitive import sensitive_schema, topics_of
from data.settings import ClassifierSettings, DedupSettings, SensitiveSettings

OF_DOCUMENTS = {"source": "source", "host": "url", "date": "date", "year": "date"}  # labels of the selection that no stage measures, and where they are read


def measured_labels(classifiers: ClassifierSettings, duplicates: DedupSettings, sensitive: SensitiveSettings, left_out: Collection[str] = ()) -> set[str]:
    """The columns of the label tables of a run with these settings, without those of the stages that are `left_out`.

    A file of terms that does not lie on this machine adds no topics. Raises ValueError, OSError where one that does cannot be read.
    """
    if sensitive.terms_file and not Path(sensitive.terms_file).exists():
        sensitive = sensitive.model_copy(update={"terms_file": None})
    schemas: dict[str, pa.Schema] = {
        "lines": LINE_LABELS,
        "language": LANGUAGE_LABELS,
        "quality": QUALITY_LABELS,
        "classifiers": classifier_schema(classifiers),
        "duplicates": DUPLICATE_LABELS,
        "perplexity": PERPLEXITY_LABELS,
        "buckets": BUCKET_LABELS,
        "sensitive": sensitive_schema(topics_of(sensitive)),
        "decontamination": CONTAMINATION_LABELS,
    }
    found = {name for stage, schema in schemas.items() if stage not in left_out for name in schema.names if name != "id"}
    return found | ({EARLIER} if duplicates.earlier else set())
