"""What emails say, encrypted wherever it is kept: PostgreSQL, Redis, and the copies of both."""
