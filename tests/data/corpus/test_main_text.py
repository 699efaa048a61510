from __future__ import annotations

import json
import subprocess
import sys


def test_the_rules_find_what_trafilatura_finds_in_the_sample_crawl() -> None:
    """As it comes, but for its last step, page by page; in a process of its own, for it is changed there."""
    found = subprocess.run([sys.executable, "-m", "tests.data.corpus.compared_texts"], capture_output=True, text=True, check=True)
    facts = json.loads(found.stdout)
    assert facts["pages"] > 20
    assert facts["characters"] > 20_000
    assert facts["unspaced"] > 5
    assert facts["forums"] > 0
    assert facts["different"] == []
