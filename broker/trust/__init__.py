"""How an AWS account is made to trust this broker: policies, templates and commands, ready to use.

Owns the documents. Refuses to know whether they were applied; the doctor looks at that.
"""
