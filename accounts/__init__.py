"""WHO: people, their directory groups, and how they proved who they are.

Owns identity providers, people, directory groups, memberships and sign-in. Refuses to know anything about AWS: what
happens here is announced in `accounts.events`, and `broker.apps` connects the announcements.
"""
