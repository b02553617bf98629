"""Usage logs from elsewhere, and made-up ones for the demo, into the ledger."""
