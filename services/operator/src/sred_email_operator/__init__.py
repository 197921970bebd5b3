"""The command line and the web console of the email dispatch system: gRPC with the services, nothing else."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its log lines would stand among what the commands say
