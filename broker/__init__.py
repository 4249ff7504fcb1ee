"""WHAT FOR: from a person to an AWS role. Also the Django project.

The folders are the sentence: a person signs in (accounts), is entitled to a role (entitlements), the broker
assumes it (assume), hands it over (handover), keeps the session (sessions), and all of it is audited (audit).
Data flows one way; import-linter keeps it so.
"""
