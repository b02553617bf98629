"""The loader: ledger → ClickHouse.

::

    python -m credit_core.analytics.clickhouse            # copy what is new, once
    python -m credit_core.analytics.clickhouse --follow   # and go on, every second
    python -m credit_core.analytics.clickhouse --tables   # print the tables' definitions; asks nobody
"""
