"""The carrier between processes: one gRPC stream a pair of parties, over mutual TLS 1.3."""
