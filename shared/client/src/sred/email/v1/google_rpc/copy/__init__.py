"""Generated from third_party/googleapis. Import ``sred.email.v1.google_rpc`` instead: it chooses."""
