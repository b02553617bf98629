"""The columnar read side: ledger → facts, metrics declared once, and the queries that pages and exports share."""
