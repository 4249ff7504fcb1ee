"""May this person use this role? AWS accounts, AWS roles, mappings, denies, and decide().

Owns the right to a role and the reasons for it. Refuses to know how a role is assumed, and holds no credential.
"""
