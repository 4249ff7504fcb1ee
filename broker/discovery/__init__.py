"""What AWS says there is: the accounts of an organisation, and roles that trust this broker.

Owns proposals of what is new and flags of what is gone. Deletes nothing and gives nobody a right.
"""
