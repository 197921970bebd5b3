"""What the provider tells of emails that it has taken: received, kept, and worked."""
