"""Northwind's two identity providers: a second, small Django project that knows nothing of Daypass.

The OpenID Connect provider is django-allauth's; the SAML identity provider is pysaml2's, signing with signxml.
"""
