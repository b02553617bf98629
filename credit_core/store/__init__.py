"""All transactional SQL: schema, migrations, one writer per table, one place that commits."""
