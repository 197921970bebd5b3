"""What the consumer does over and over, one loop a file."""
