"""Signatures: what a document is compared by, measured shard by shard, whatever will be decided about copies.

MinHash (Broder 1997; Leskovec et al., Mining of Massive Datasets, 3.3): a document is the set of its shingles; the minimum of a
random hash over the set is equal for two documents with probability J, their Jaccard similarity. `rows` minima make a band, and
documents that agree in a band are candidates, with probability 1 - (1 - J^rows)^bands. At 14 x 8 that is .565/.772/.924/.988 at
J = .70/.75/.80/.85.

The hash is a*x + b mod 2^32 with a odd, on x that are well mixed already: a permutation, as MinHash wants it, sixteen
to a processor instruction, and without the division that (a*x + b) mod (2^61 - 1) needs.

Of each minimum the lower 16 bits are kept (b-bit minwise hashing, Li and Koenig 2010: other minima agree in them with probability
2^-16, which eight rows of a band make 2^-128). They cost twice what 14 keys of bands would, and any bands can be made of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data import kernels
from data.character_tables import character_classes, normal_forms
from data.document import label_schema, values, views
from data.settings import DedupSettings, SignatureSettings
from data.text import MULTIPLIER, Hashes, mix

Minima = NDArray[np.uint16]  # shape (documents, hashes)
_AT_ONCE = 256  # documents whose shingles are in memory


def signature_schema(hashes: int) -> pa.Schema:
    """`text_hash` of the normalised text, and the `minima`: little-endian uint16, one after the other."""
    return label_schema({"text_hash": pa.uint64(), "minima": pa.binary(2 * hashes)})


def permutations(settings: SignatureSettings) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Multipliers (odd) and addends of the hash functions, from the seed alone."""
    random = np.random.Generator(np.random.PCG64(settings.seed))
    a = random.integers(0, 1 << 31, settings.hashes, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    b = random.integers(0, 1 << 32, settings.hashes, dtype=np.uint32)
    return a, b


def minhash(shingle_hashes: Sequence[Hashes], settings: SignatureSettings) -> Minima:
    """MinHash signatures. Every document needs at least one shingle."""
    a, b = permutations(settings)
    minima = b"".join(kernels.minhash(hashes, a, b) for hashes in shingle_hashes)
    return np.frombuffer(minima, np.uint32).reshape(len(shingle_hashes), len(a)).astype("<u2")


def band_keys(minima: Minima, settings: DedupSettings) -> Hashes:
    """64-bit key of every band, shape (documents, bands). Keys of different bands do not meet."""
    rows = minima[:, : settings.bands * settings.rows].reshape(len(minima), settings.bands, settings.rows)
    keys = np.zeros(rows.shape[:2], dtype=np.uint64)
    for row in range(settings.rows):
        keys = mix(keys * np.uint64(MULTIPLIER) + rows[:, :, row].astype(np.uint64) + np.uint64(row + 1))
    return keys


def signatures(documents: pa.Table, settings: SignatureSettings) -> pa.Table:
    """Label: `text_hash` and `minima` (`signature_schema`)."""
    hashes: list[int] = []
    sets: list[Hashes] = []
    minima: list[bytes] = []
    for text in views(documents, "text"):
        text_hash, found = kernels.shingles(text or b"", normal_forms(), character_classes(), settings.shingle_words, settings.shingle_characters)
        hashes.append(text_hash)
        sets.append(np.frombuffer(found, np.uint64))
        if len(sets) == _AT_ONCE:
            minima.append(minhash(sets, settings).tobytes())
            sets.clear()
    minima.append(minhash(sets, settings).tobytes())
    schema = signature_schema(settings.hashes)
    packed = pa.Array.from_buffers(schema.field("minima").type, len(hashes), [None, pa.py_buffer(b"".join(minima))])
    return pa.table([documents["id"].combine_chunks(), pa.array(hashes, pa.uint64()), packed], schema=schema)


def minima_of(signed: pa.Table, settings: SignatureSettings) -> Minima:
    """The minima of a table of signatures."""
    packed = b"".join(values(signed, "minima"))
    return np.frombuffer(packed, "<u2").reshape(signed.num_rows, settings.hashes)
