"""evalsuite's side of every comparison.

Where the harness asks for it (``with_torchs_products``), linear layers keep to the library that torch uses by itself.
"""

import os

from benchmarks.harness import TORCHS_PRODUCTS

if os.environ.get(TORCHS_PRODUCTS):
    from evalsuite.llm.loading import matmul

    matmul.mkl_holds_back = lambda: False  # type: ignore[assignment]  # what it does, without its cache
