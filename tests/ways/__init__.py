"""Every way into a role, against an STS that truly checks."""
