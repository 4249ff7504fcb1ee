"""What happened: the catalogue of events, the hash chain, and its verification.

Owns the only append-only tables. Refuses to know what an event means to anybody else: a stage hands over a kind, a
subject and plain data, inside its own transaction, and the row stands or falls with what it records.
"""
