"""The watch over the libraries: what Daypass overrides in them or relies on for safety, and how it was when last read.

Libraries change what is private without notice, and an override whose hook was renamed is dead code that nobody
misses. Here every such function is held in one table with the reason why it matters (`table.py`), and a fingerprint of
its source in `recorded.json`; tests/accounts/test_libraries.py fails when one is not what it was.

    python -m tests.libraries             # what changed
    python -m tests.libraries --record    # after reading the change: record it as it is now
"""
