"""Who may call: tokens, what each may do, and the certificates of the gRPC ports."""
