"""From what was seen to what is wrong: the doctor's reasoning. Pure.

The order of the steps is the order in which AWS looks: who signed, for whom, with which certificate, and only then the
role and its trust policy. So a refusal by the policy proves that everything before it is right, and a success proves
all of it. Specification: "Troubleshoot IAM" and "Troubleshoot SAML federation" in the IAM user guide, the errors of the
STS API reference; docs/doctor.md is the table for people, and a test keeps the two together.
"""

from __future__ import annotations

from broker.doctor.rules.evidence import (
    TITLES,
    Attempt,
    Cause,
    Diagnosis,
    Evidence,
    IamLook,
    IssuerLook,
    Outcome,
    Problem,
    Registered,
    RoleSeen,
    State,
    Step,
    StepFound,
)
from broker.doctor.rules.policy import call_of, corrected
from broker.doctor.rules.telling import diagnose
from broker.doctor.rules.unopened import saml_providers_in

__all__ = [
    "TITLES",
    "Attempt",
    "Cause",
    "Diagnosis",
    "Evidence",
    "IamLook",
    "IssuerLook",
    "Outcome",
    "Problem",
    "Registered",
    "RoleSeen",
    "State",
    "Step",
    "StepFound",
    "call_of",
    "corrected",
    "diagnose",
    "saml_providers_in",
]
