"""The trained methods on a GPU: 4-bit base, bfloat16, and the same reload check as everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

import evalsuite

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _needs_a_gpu() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")


@pytest.mark.parametrize("method", ["embedding", "instruction"])
@pytest.mark.parametrize("task", ["ag_news", "wipo"])
def test_a_run_on_the_gpu(task: str, method: str, tmp_path: Path) -> None:
    result = evalsuite.run(
        task, method, device="cuda", load_in_4bit=True, train_limit=64, limit=32, epochs=1, output_path=str(tmp_path)
    )
    assert result.results["facts"]["quantised"]
    assert result.results["cost"]["peak_memory_bytes"]["gpu"] > 0
    assert result.results["reload_check"]["passed"], result.results["reload_check"]
