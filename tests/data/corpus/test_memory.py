"""No stage holds the corpus: memory is bounded by a shard or a partition, however many there are."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data.corpus.duplicates.minhash import signature_schema
from data.corpus.url.repeats import KEYS_SCHEMA
from data.document import DOCUMENT_SCHEMA
from data.settings import DedupSettings
from data.shards import shard_name, write_shard
from tests.conftest import ROOT
from tests.data.corpus.helpers import SAMPLES

_PEAK = "print(int(Path('/proc/self/status').read_text().split('VmHWM:', 1)[1].split()[0]) // 1024)\n"  # MiB


def peak(program: str, *arguments: str) -> int:
    """MiB that a process which runs `program` holds at most."""
    program = f"import sys; from pathlib import Path\n{program}\n{_PEAK}"
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_four_times_the_shards_need_no_more_memory(tmp_path: Path) -> None:
    """The mapped stages and the clusters over 3 and over 12 shards of 100 documents of 50 kB: 45 MB of text more, which a
    stage that holds the corpus would have at least once. The selection, whose parts are larger than this, is tested below."""
    words = (SAMPLES / "trusted" / "en.txt").read_text(encoding="utf-8").split()
    peaks = {}
    for shards in (3, 12):
        rng = random.Random(shards)
        folder = tmp_path / str(shards)
        folder.mkdir()
        with (folder / "in.jsonl").open("w") as file:
            for number in range(100 * shards):
                text = " ".join(rng.choices(words, k=8500))
                file.write(json.dumps({"text": text, "url": f"http://a.example/{shards}/{number}"}) + "\n")
        program = (
            "import tests.data.corpus.test_pipeline as pipeline\n"
            "def enough(*given): raise KeyboardInterrupt\n"
            "pipeline.select = enough\n"
            "try: pipeline.clean(sys.argv[1] + '/in.jsonl', Path(sys.argv[1]) / 'out', 100)\n"
            "except KeyboardInterrupt: pass"
        )
        peaks[shards] = peak(program, str(folder))
    print(peaks)
    assert peaks[12] - peaks[3] < 42, peaks  # MiB


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_selection_sorts_in_parts(tmp_path: Path) -> None:
    """64 and 160 shards of 2 MB of text, in parts of 8 MiB: 187 MiB more for who held them once, of which a fifth is allowed. Fewer
    shards say nothing: an allocator keeps some 50 MiB of what the first dozens of parts took, and no more after them."""
    rng = random.Random(1)
    words = (SAMPLES / "trusted" / "en.txt").read_text(encoding="utf-8").split()
    peaks = {}
    for shards in (64, 160):
        folder = tmp_path / str(shards)
        for number in range(shards):
            rows = [{"id": f"{rng.getrandbits(128):032x}", "source": f"a#{number}-{row}", "text": " ".join(rng.choices(words, k=8500))} for row in range(40)]
            write_shard(folder / shard_name(number), pa.Table.from_pylist(rows, DOCUMENT_SCHEMA))
        program = (
            "from data.corpus import canonical, selection; from data.settings import SelectionSettings; from data.shards import list_shards\n"
            "canonical._PART_BYTES = 8 << 20\n"
            "settings = SelectionSettings(rules=[], personal_data='keep', shard_documents=40)\n"
            "done = selection.select(list_shards(Path(sys.argv[1])), {}, Path(sys.argv[1]) / 'out', settings)\n"
            "assert done.counts.kept == 40 * len(list_shards(Path(sys.argv[1]))) == 40 * len(list_shards(Path(sys.argv[1]) / 'out/documents'))"
        )
        peaks[shards] = peak(program, str(folder))
    print(peaks)
    assert peaks[160] - peaks[64] < 187 / 5, peaks


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_repeated_urls_are_found_in_partitions(tmp_path: Path) -> None:
    """Half a million and two million pages, a quarter of a million in a partition."""
    peaks = {}
    for pages in (500_000, 2_000_000):
        random_ = np.random.default_rng(1)
        keys = []
        for number in range(pages // 50_000):
            columns = [random_.integers(0, 1 << 63, 50_000, dtype=np.uint64) for _ in KEYS_SCHEMA.names[1:]]
            keys.append(tmp_path / str(pages) / shard_name(number))
            write_shard(keys[-1], pa.table([pa.array([""] * 50_000), *columns], schema=KEYS_SCHEMA))
        program = (
            "from data.corpus.url.repeats import find_repeats; from data.shards import list_shards\n"
            "find_repeats(list_shards(Path(sys.argv[1])), Path(sys.argv[1]) / 'out', 250_000)"
        )
        peaks[pages] = peak(program, str(keys[0].parent))
    print(peaks)
    assert peaks[2_000_000] - peaks[500_000] < 30, peaks  # MiB; in one piece they would need some 300 more


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_clusters_are_found_in_partitions(tmp_path: Path) -> None:
    """A hundred and four hundred thousand documents, every fifth a copy, fifty thousand in a partition: 18 bytes of each document more,
    and as much again for what an allocator keeps; in one piece it would be some 70 MiB."""
    settings = DedupSettings(verify=False)
    peaks = {}
    for documents in (100_000, 400_000):
        random_ = np.random.default_rng(1)
        folder = tmp_path / str(documents)
        for number in range(documents // 10_000):
            minima = random_.integers(0, 1 << 16, (10_000, settings.hashes), dtype=np.uint16)
            minima[4::5] = minima[3::5]
            ids = [random_.bytes(16).hex() for _ in range(10_000)]
            packed = pa.array([row.tobytes() for row in minima], pa.binary(2 * settings.hashes))
            columns = [pa.array(ids), pa.array(random_.integers(0, 1 << 63, 10_000, dtype=np.uint64)), packed]
            write_shard(folder / shard_name(number), pa.table(columns, schema=signature_schema(settings.hashes)))
        program = (
            "from data.corpus import partitions; from data.corpus.duplicates import clusters, dedup, keys\n"
            "from data.settings import DedupSettings; from data.shards import list_shards\n"
            "keys._PARTITION_ROWS = clusters._PARTITION_ROWS = 50_000; partitions._ROWS_AT_ONCE = 20_000\n"
            "dedup.find_duplicates(list_shards(Path(sys.argv[1])), Path(sys.argv[1]) / 'out', DedupSettings(verify=False))"
        )
        peaks[documents] = peak(program, str(folder))
    print(peaks)
    assert peaks[400_000] - peaks[100_000] < 20, peaks  # MiB
