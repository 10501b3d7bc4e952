"""The store in PostgreSQL with pgvector: one schema of a database. All SQL of PostgreSQL is here."""
