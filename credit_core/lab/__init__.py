"""Trying a configuration on what was logged before anybody feels it. Reads; never writes to the ledger."""
