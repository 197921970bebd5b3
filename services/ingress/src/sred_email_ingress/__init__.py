"""The ingress: accepts emails by gRPC and puts them on the stream."""
