"""The inner loops of the corpus half, compiled: one pass over a text's characters where numpy would need dozens.

They measure and decide nothing; what a number means is said where it is asked for. Texts come as str, or as the UTF-8 that Arrow
has in memory (data.document.views), and are read in blocks, of whose characters one bit each says what they are. Tables
(data/character_tables.py) and arrays come as buffers, arrays go back as bytes. _compiled.pyi says what there is.
"""

try:
    from data.kernels._compiled import *  # noqa: F403
except ImportError as error:
    raise ImportError(f"data.kernels is not built ({error}): run `pip install -e .` in the repository, which needs a C compiler") from None
