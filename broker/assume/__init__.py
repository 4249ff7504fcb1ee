"""From Allowed to credentials: plan, recorded session, one call to STS. The one door through which credentials come.

Refuses to decide (entitlements does) and to hand over (handover does).
"""
