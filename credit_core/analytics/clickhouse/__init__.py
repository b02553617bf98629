"""The columnar copy on ClickHouse, for ledgers that outgrow one machine: dialect, tables, and the copy itself."""
