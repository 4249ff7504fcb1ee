"""The files of docs/operations.md for what stands in front of Daypass, taken from the page as they are, and tried.

`python -m tests.proxies` does it with real proxies; what needs none is in `test_page.py`.
"""
