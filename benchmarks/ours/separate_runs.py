"""``evalsuite run`` once for each configuration of a folder, one after the other: the plain side of ``sweep``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    for config in sorted(Path(sys.argv[1]).glob("*.yaml")):
        subprocess.run([sys.executable, "-m", "evalsuite", "run", "--config", str(config)], check=True)
