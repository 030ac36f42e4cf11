"""Round trips over our link against a bare gRPC stream, both with mutual TLS.

make bench NAME=link_round_trip
"""

from __future__ import annotations

import argparse
import queue
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.link import (
    Link,
    Transcript,
    create_identity,
    load_identity,
    open_links,
    trust,
    trusted_partners,
)

HERE, THERE = "alice", "bob"
SIZES = (32 * 1024, 256 * 1024)
PATH = "/bench.Echo/Open"
BAR = 1.0
TITLE = "Round trips over loopback: our link against a bare gRPC stream, both with mutual TLS"
SUMMARY = """\
Two processes; one sends a message of one float32 tensor, the other sends it back, and the next goes
out when it has come. Bare: one bidirectional stream of grpcio that carries the same number of bytes
as they are, with the same certificates. Ours does more: it encodes and checks tensors, numbers and
keeps messages until they are acknowledged, writes digests to a transcript, meters, and cuts into
frames. The ratio is ours over bare round trips a second, the median of interleaved runs, and the
worse of the two sizes counts."""


def main() -> None:
    """Measure both carriers at both sizes, or be the echoing side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trips", type=int, default=1500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--echo", choices=["ours", "bare"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.echo == "ours":
        _echo_ours(args.folder, args.port)
    elif args.echo == "bare":
        _echo_bare(args.folder, args.port)
    else:
        publish(_measure(args.trips, args.repeats))


def _measure(trips: int, repeats: int) -> Result:
    machine = machine_facts()
    rates: dict[str, dict[int, list[float]]] = {
        carrier: {size: [] for size in SIZES} for carrier in ("ours", "bare")
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _identities(folder)
        for _ in range(repeats):
            for carrier, times in (("ours", _time_ours), ("bare", _time_bare)):
                for size, rate in zip(SIZES, times(folder, trips), strict=True):
                    rates[carrier][size].append(rate)
    return _result(rates, machine)


def _identities(folder: Path) -> None:
    made = {name: create_identity(folder / name, name, days=2) for name in (HERE, THERE)}
    trust(folder / HERE, made[THERE].certificate_path)
    trust(folder / THERE, made[HERE].certificate_path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _echo_process(carrier: str, folder: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.link_round_trip", "--echo", carrier]
    command += ["--folder", str(folder), "--port", str(port)]
    return subprocess.Popen(command, stdin=subprocess.PIPE)


# Our link.


def _time_ours(folder: Path, trips: int) -> list[float]:
    port = _free_port()
    child = _echo_process("ours", folder, port)
    with _link(folder, HERE, THERE, dial=f"127.0.0.1:{port}") as link:
        rates = [_trips_of_link(link, size, trips) for size in SIZES]
        link.send("stop")
    child.wait(timeout=30)
    return rates


def _trips_of_link(link: Link, size: int, trips: int) -> float:
    tensor = np.random.default_rng(0).standard_normal(size // 4).astype(np.float32)
    for count in (trips // 10, trips):  # the first round is warm-up
        link.send("go", header={"trips": count})
        begin = time.perf_counter()
        for _ in range(count):
            link.send("ping", {"x": tensor})
            back = link.recv("pong").tensors["x"]
        seconds = time.perf_counter() - begin
    if not np.array_equal(back, tensor):
        raise AssertionError("the echo is not what was sent")
    return trips / seconds


def _echo_ours(folder: Path, port: int) -> None:
    with _link(folder, THERE, HERE, listen=f"127.0.0.1:{port}") as link:
        for _ in range(2 * len(SIZES)):
            for _ in range(link.recv("go").header["trips"]):
                link.send("pong", link.recv("ping").tensors)
        link.recv("stop")


def _link(
    folder: Path, me: str, partner: str, *, dial: str | None = None, listen: str | None = None
) -> Link:
    links = open_links(
        folder / me,
        me,
        {partner: dial},
        listen=listen,
        context="bench",
        transcript=Transcript(folder / f"{me}.jsonl"),
    )
    return links[partner]


# A bare stream.


def _echo_bare(folder: Path, port: int) -> None:
    def echo(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield from requests

    handler = grpc.stream_stream_rpc_method_handler(echo)
    methods = grpc.method_handlers_generic_handler("bench.Echo", {"Open": handler})
    mine = load_identity(folder / THERE, THERE)
    credentials = grpc.ssl_server_credentials(
        [(mine.key_pem(), mine.certificate_pem())],
        trusted_partners(folder / THERE)[HERE].certificate_pem(),
        require_client_auth=True,
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((methods,))
    server.add_secure_port(f"127.0.0.1:{port}", credentials)
    server.start()
    sys.stdin.read()  # until the other side ends us
    server.stop(None)


def _time_bare(folder: Path, trips: int) -> list[float]:
    port = _free_port()
    child = _echo_process("bare", folder, port)
    mine = load_identity(folder / HERE, HERE)
    credentials = grpc.ssl_channel_credentials(
        trusted_partners(folder / HERE)[THERE].certificate_pem(),
        mine.key_pem(),
        mine.certificate_pem(),
    )
    options = [("grpc.ssl_target_name_override", f"{THERE}.isthmus")]
    try:
        with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
            grpc.channel_ready_future(channel).result(timeout=30)
            return _trips_of_stream(channel, trips)
    finally:
        child.kill()
        child.wait()


def _trips_of_stream(channel: grpc.Channel, trips: int) -> list[float]:
    outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    stream = channel.stream_stream(PATH)(iter(outgoing.get, None))
    rates = []
    for size in SIZES:
        payload = bytes(size)
        for count in (trips // 10, trips):
            begin = time.perf_counter()
            for _ in range(count):
                outgoing.put(payload)
                next(stream)
            seconds = time.perf_counter() - begin
        rates.append(trips / seconds)
    outgoing.put(None)
    return rates


def _result(rates: dict[str, dict[int, list[float]]], machine: dict[str, Any]) -> Result:
    ratio = {size: _median(rates["ours"][size]) / _median(rates["bare"][size]) for size in SIZES}
    return Result(
        name="link_round_trip",
        title=TITLE,
        summary=SUMMARY,
        bars=[Bar("round trips a second, ours over bare", min(ratio.values()), BAR)],
        columns=["message", "ours, trips/s", "bare, trips/s", "ours, ms", "ratio"],
        rows=[_row(size, rates, ratio[size]) for size in SIZES],
        raw={"trips_per_second": rates},
        machine=machine,
        versions=versions("grpcio", "numpy"),
    )


def _row(size: int, rates: dict[str, dict[int, list[float]]], ratio: float) -> list[str]:
    ours, bare = _median(rates["ours"][size]), _median(rates["bare"][size])
    return [
        f"{size // 1024} KiB",
        f"{ours:,.0f}",
        f"{bare:,.0f}",
        f"{1000 / ours:.2f}",
        f"{ratio:.2f}",
    ]


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    main()
