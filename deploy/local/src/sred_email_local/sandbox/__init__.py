"""A stand-in for Resend: its sending API as documented, failures on demand, and an inbox page to look at."""
