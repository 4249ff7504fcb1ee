"""The door for people: pages that parse, call one service and answer.

Owns how things look and what a person pinned. Refuses to decide about rights, and never keeps what it shows.
"""
