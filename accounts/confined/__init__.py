"""Everything that reads XML written by others: it runs in a process of its own, with nothing to lose.

`python -m accounts.confined` is that process (see `accounts.room`, which keeps a few of them). It imports no Django and
no settings, holds no secret, and after its start can open neither a file nor a connection: whatever a message does to
libxml2, xmlsec or us, it does it to a process that can only answer yes or no. docs/decisions/0007-xml-room.md.
"""
