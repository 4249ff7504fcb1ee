"""`make bench`: every benchmark, in turn; `python -m benchmarks <name> ...`: one of them."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

PARTS = ("issue", "terminals", "gate", "flood")

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in PARTS:
        name = sys.argv.pop(1)
        import_module(f"benchmarks.{name}").main()
    else:
        for name in PARTS:
            subprocess.run([sys.executable, "-m", "benchmarks", name, *sys.argv[1:]], check=True)
