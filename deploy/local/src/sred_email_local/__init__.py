"""The whole system on one machine: embedded PostgreSQL and Valkey, both services, and a sandbox for the provider."""
