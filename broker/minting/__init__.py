"""Our signature: the broker's keys, and what they sign for AWS.

Owns every private key. Refuses to know who is entitled to what: it signs typed claims for one role and one purpose,
and there is no free-form signing.
"""
