"""Beside the reference: what dyff-schema 0.12.0 and 0.46.17 make of what we write, and we of theirs.

The reference runs in virtual environments of its own (``environments``), as subprocesses that answer one
JSON line for each JSON line that they read (``oracle``). It is never imported here.
"""
