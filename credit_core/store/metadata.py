"""What all tables share: the names of their constraints, and checks of a column's values."""

from __future__ import annotations

from sqlalchemy import DDL, CheckConstraint, MetaData, Table, event


def one_of(column: str, values: tuple[str, ...]) -> str:
    """The check that ``column`` holds one of ``values``."""
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


def checked(table: str, columns: dict[str, str], **named: str) -> tuple[CheckConstraint, ...]:
    """The checks ``named`` of a table that every leg writes; on PostgreSQL one call of a function of the ``columns`` in them.

    The server would read their stored expressions anew for every statement (migration 0005). ``columns``: name → its type.
    """
    each = [CheckConstraint(says, name).ddl_if(dialect="sqlite") for name, says in named.items()]
    call = f"titrate_{table}_hold({', '.join(columns)})"
    together = CheckConstraint(call, "_".join(named)).ddl_if(dialect="postgresql")
    takes = ", ".join(f"{column} {kind}" for column, kind in columns.items())
    says = " AND ".join(f"({check})" for check in named.values())
    function = DDL(  # type: ignore[no-untyped-call]
        f"CREATE OR REPLACE FUNCTION titrate_{table}_hold({takes}) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ "
        f"BEGIN RETURN {says}; END $$"
    ).execute_if(dialect="postgresql")

    @event.listens_for(together, "after_parent_attach")
    def attached(_: CheckConstraint, parent: Table) -> None:
        event.listen(parent, "before_create", function)

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
