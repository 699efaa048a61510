"""The inner loops of the corpus half, compiled: one pass over a text's characters where numpy would need dozens.

They measure and decide nothing; what a number means is said where it is asked for. Texts come as str and are read in place,
tables (data/text.py) and arrays come as buffers, arrays go back as bytes.
"""

try:
    from data.kernels._compiled import (
        QUALITY_COUNTS,
        fold,
        longest_texts,
        minhash,
        quality_counts,
        scan_words,
        shingles,
        text_hash,
    )
except ImportError as error:
    raise ImportError(f"data.kernels is not built ({error}): run `pip install -e .` in the repository, which needs a C compiler") from None

__all__ = ["QUALITY_COUNTS", "fold", "longest_texts", "minhash", "quality_counts", "scan_words", "shingles", "text_hash"]
