"""What an audit is made of: the platform types, Arrow schemas, adapters, identifiers and digests.

Types are had from ``dyff_dagster.schema.platform``; the other modules are named after what they are about.
"""
