"""What a run holds for each document of its corpus: its text and some hundred bytes, and nothing that grows faster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FEW, MANY = 2_000, 20_000
WORDS = 40
# Bytes that a document may add to a run's peak beside those of its row in the source: the text as an object of Python,
# its id, labels and place, and its row among the scored documents. Measured: 290.
MOST_BESIDE_TEXT = 600

RUN = """
import sys
import evalsuite
from evalsuite.accounting import peak_memory

data, out = sys.argv[1:]
evalsuite.run("table", "majority", task_options={"data": data}, output_path=out)
print(peak_memory())
"""


def table(folder: Path, count: int) -> Path:
    """Documents of 40 words with their number, in turn of three labels."""
    path = folder / f"{count}.jsonl"
    words = " ".join(f"word{place % 13}" for place in range(WORDS))
    rows = ({"text": f"{words} {number}", "label": "abc"[number % 3]} for number in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def peak(folder: Path, count: int) -> int:
    """The most memory that a run on so many documents held, in bytes, in a process of its own."""
    arguments = [str(table(folder, count)), str(folder / f"runs-{count}")]
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_ten_times_the_documents_add_a_bounded_number_of_bytes_each(tmp_path: Path) -> None:
    few, many = peak(tmp_path, FEW), peak(tmp_path, MANY)
    source = (tmp_path / f"{MANY}.jsonl").stat().st_size / MANY
    assert (many - few) / (MANY - FEW) < source + MOST_BESIDE_TEXT
