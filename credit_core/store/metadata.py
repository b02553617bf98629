"""What all tables share: the names of their constraints, and checks of a column's values."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, MetaData


def one_of(column: str, values: tuple[str, ...]) -> str:
    """The check that ``column`` holds one of ``values``."""
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


def checked(table: str, columns: str, **named: str) -> tuple[CheckConstraint, ...]:
    """The checks ``named`` of a table that every leg writes; on PostgreSQL one call of a function of the ``columns`` in them.

    The server would read their stored expressions anew for every statement (migration 0005).
    """
    each = [CheckConstraint(says, name).ddl_if(dialect="sqlite") for name, says in named.items()]
    together = CheckConstraint(f"titrate_{table}_hold({columns})", "_".join(named)).ddl_if(dialect="postgresql")
    return (*each, together)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
