"""What both services stand on: the log, the queue, errors, lifecycle."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # else whoever fails to connect writes a line into our log
