"""The command line of the email dispatch system. It speaks gRPC with the services and nothing else."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its log lines would stand among what the commands say
