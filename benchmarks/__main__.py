"""`make bench`: every benchmark, in turn."""

from __future__ import annotations

from benchmarks.issue import main

if __name__ == "__main__":
    main()
