"""Every call to AWS, a file for each service. The only stage that imports boto3.

Refuses to know people, mappings or sessions. botocore's errors are translated here and nowhere else.
"""
