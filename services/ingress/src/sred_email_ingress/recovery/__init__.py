"""Compares what the log says with what Redis holds, and mends Redis."""
