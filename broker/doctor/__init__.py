"""Whether the way into a role works, and what exactly is wrong when it does not.

Owns the results of such looks. Refuses to know how anybody is entitled to a role.
"""
