"""An index for Django: it finds the admin of every stage here. Imports only."""

from broker import inspection
from broker.assume import admin as assume
from broker.audit import admin as audit
from broker.awssso import admin as awssso
from broker.awssso import checks_admin
from broker.discovery import admin as discovery
from broker.doctor import admin as doctor
from broker.entitlements import admin as entitlements
from broker.handover import admin as handover
from broker.sessions import admin as sessions
from broker.trust import admin as trust
from broker.upkeep import admin as upkeep

__all__ = [
    "assume",
    "audit",
    "awssso",
    "checks_admin",
    "discovery",
    "doctor",
    "entitlements",
    "handover",
    "inspection",
    "sessions",
    "trust",
    "upkeep",
]
