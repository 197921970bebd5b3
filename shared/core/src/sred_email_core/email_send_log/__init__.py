"""PostgreSQL: the log of emails, the sends that carry them, the dead letters."""
