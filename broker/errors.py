"""One tree of failures. A refusal is a value (see `broker.entitlements.rules`); a failure is one of these.

Each carries a stable code, a sentence that is safe to show to anybody, and whether trying again helps. What an
administrator needs to mend the cause travels beside it in `cause` and `remedy`, and never reaches the employee.
"""

from __future__ import annotations


class DaypassError(Exception):
    """The root of every failure that Daypass itself raises.

    code: stable, machine-readable, lower_snake_case.
    message: one or two plain sentences for the person in front of the page or terminal.
    retry: True when the very same attempt may succeed a moment later.
    cause, remedy: for the administrator: what most likely went wrong, and what mends it.
    """

    code = "error"
    message = "Something went wrong in Daypass."
    retry = False

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        retry: bool | None = None,
        cause: str = "",
        remedy: str = "",
    ) -> None:
        if message is not None:
            self.message = message
        if code is not None:
            self.code = code
        if retry is not None:
            self.retry = retry
        self.cause = cause
        self.remedy = remedy
        super().__init__(self.message)

    @property
    def explained(self) -> str:
        """For an administrator: what happened, why, and what mends it."""
        return " ".join(filter(None, (self.message, self.cause, self.remedy)))

    @property
    def why(self) -> str:
        """The same where it is plain what happened: why, and what mends it."""
        return " ".join(filter(None, (self.cause or self.message, self.remedy)))


class BadInput(DaypassError):
    """What was given cannot be understood; `message` says what was wrong and what to do."""

    code = "bad_input"
    message = "That could not be understood."


class SignInRefused(DaypassError):
    """The identity provider's answer does not let this person in. The page shows only a reference number."""

    code = "sign_in_refused"
    message = "You could not be signed in."


class ProviderUnavailable(DaypassError):
    """The identity provider cannot be reached or answers nonsense."""

    code = "provider_unavailable"
    message = "Your company's sign-in service does not answer right now. Try again in a moment."
    retry = True


class AwsError(DaypassError):
    """AWS refused or failed; translated from botocore by `broker.aws`, nowhere else.

    aws_code: AWS's own error code ("AccessDenied", "PackedPolicyTooLarge", ...) or a botocore exception name.
    """

    code = "aws_failed"
    message = "AWS did not issue the credentials."

    def __init__(
        self,
        message: str | None = None,
        *,
        aws_code: str = "",
        code: str | None = None,
        retry: bool | None = None,
        cause: str = "",
        remedy: str = "",
    ) -> None:
        super().__init__(message, code=code, retry=retry, cause=cause, remedy=remedy)
        self.aws_code = aws_code


class AwsUnavailable(AwsError):
    """AWS did not answer, throttled, or failed inside; trying again helps."""

    code = "aws_unavailable"
    message = "AWS does not answer right now. Try again in a moment."
    retry = True


class KeyUnavailable(DaypassError):
    """A signing key or a sealing key that is needed is missing or cannot be opened."""

    code = "key_unavailable"
    message = (
        "Daypass cannot sign requests to AWS right now. An administrator has to look at its keys."
    )


class AuditBroken(DaypassError):
    """The audit log cannot be written. No audit row, no credential."""

    code = "audit_unavailable"
    message = "Daypass cannot record this right now, so it does not do it."
    retry = True
