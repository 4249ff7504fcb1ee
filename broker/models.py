"""An index for Django: it finds the models of every stage here. Imports only."""

from broker.audit.models import AuditEvent, AuditHead
from broker.awssso.models import DeviceRequest, Terminal, TerminalPolicy, TerminalToken
from broker.discovery.models import Finding
from broker.doctor.models import TrustCheck
from broker.entitlements.models import AwsAccount, AwsRole, Deny, Environment, Mapping, MappingRole
from broker.minting.models import SigningKey
from broker.portal.models import Favourite
from broker.sessions.models import Session
from broker.upkeep.models import Publication

__all__ = [
    "AuditEvent",
    "AuditHead",
    "AwsAccount",
    "AwsRole",
    "Deny",
    "DeviceRequest",
    "Environment",
    "Favourite",
    "Finding",
    "Mapping",
    "MappingRole",
    "Publication",
    "Session",
    "SigningKey",
    "Terminal",
    "TerminalPolicy",
    "TerminalToken",
    "TrustCheck",
]
