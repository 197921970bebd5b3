"""What both services stand on: the log, the queue, errors, lifecycle."""
