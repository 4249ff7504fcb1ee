"""What is alive: the lifecycle of every session, from pending to its end.

Owns the session rows. Refuses to see a credential: it keeps access key ids and times, nothing that opens a door.
"""
