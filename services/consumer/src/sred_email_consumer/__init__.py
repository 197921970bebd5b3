"""The consumer: delivers the emails of the stream through Resend."""
