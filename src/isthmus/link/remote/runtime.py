"""gRPC as links use it: quiet, TLS 1.3 only, large frames, no threads that outlive the program."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

# gRPC reads these once, when it is loaded. It would else write each refused handshake to stderr.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# BoringSSL's TLS 1.3 suites are fixed; these are those of TLS 1.2. With none that an ECDSA key can
# use, and ours are always ECDSA, no handshake below TLS 1.3 can succeed.
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES256-GCM-SHA384")

import grpc

SERVICE = "isthmus.Link"
METHOD = "Open"
PATH = f"/{SERVICE}/{METHOD}"

MAX_FRAME_BYTES = 1 << 20
"""The largest frame, its head included, in bytes."""

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_FRAME_BYTES),
    ("grpc.max_send_message_length", MAX_FRAME_BYTES),
    ("grpc.http2.max_frame_size", MAX_FRAME_BYTES),
    ("grpc.optimization_target", "latency"),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
]
SERVER_OPTIONS: list[tuple[str, Any]] = [
    *OPTIONS,
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 8),
]
CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    *OPTIONS,
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.min_reconnect_backoff_ms", 5000),
]

__all__ = [
    "CHANNEL_OPTIONS",
    "MAX_FRAME_BYTES",
    "METHOD",
    "PATH",
    "SERVER_OPTIONS",
    "SERVICE",
    "DaemonThreads",
    "grpc",
]


class DaemonThreads(futures.ThreadPoolExecutor):
    """A thread per stream, none of which keeps a finished or failed program alive."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """Run `fn` in a new daemon thread."""
        future: futures.Future[Any] = futures.Future()

        def run() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, name="isthmus-stream", daemon=True).start()
        return future
