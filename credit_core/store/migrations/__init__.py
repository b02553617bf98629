"""Carries the schema forward, step by step: ``versions`` are run by :mod:`credit_core.store.migrate`."""
