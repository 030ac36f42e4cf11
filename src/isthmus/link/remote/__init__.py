"""The carrier between processes: one stream a pair of parties, over mutual TLS 1.3."""
