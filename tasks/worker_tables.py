"""Imported by the server of the worker processes alone, before its first fork: what every worker would make for itself otherwise, a
second of the processor each, lies in the pages that they share.
"""

from __future__ import annotations

import gc

from data.character_tables import character_classes, normal_forms
from data.corpus.lines import is_boilerplate
from data.corpus.sensitive import fold

character_classes()
normal_forms()
is_boilerplate("the patterns of lines")
fold("其 forms")
gc.freeze()  # what is imported by now lives as long as the process: no collection need walk through it, nor copy its pages
