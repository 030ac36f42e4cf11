"""One side of RR22 by SecretFlow's `spu`, in an interpreter of its own; started by `rr22_spu`.

A script for Python 3.10 or 3.11 that needs `spu` and nothing of Isthmus: `spu` asks for an older
NumPy and Python than Isthmus does. It reads a line of JSON from its standard input::

    {"folder": ..., "rank": 0 or 1, "seconds": how long to wait for the other side}

finds its ids in `ids.csv` of that folder, talks to the other side through the sockets `own` and
`partner` there (rank 0 is the receiver of the result, in `found.csv`), and answers with a line,
`{"found": count}` or `{"error": text}`. When its standard input ends, so does it, and deletes the
folder: then whoever started it is gone.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import resource
import shutil
import sys
import threading
import types
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer one request, or say which `spu` there is."""
    # What the library prints itself must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if sys.argv[1:] == ["--version"]:
        answer: dict[str, Any] = {"spu": _version()}
    else:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # It makes room for what the partner says that it will send: where memory runs out, it goes.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        answer = _answer()
    print(json.dumps(answer), file=answers, flush=True)


def _version() -> str | None:
    try:
        return version("spu")
    except PackageNotFoundError:
        return None


def _answer() -> dict[str, Any]:
    try:
        link, psi = _load("libspu").link, _load("libpsi")
        _prepare(psi)
        wanted = json.loads(sys.stdin.readline())
        threading.Thread(target=_end_with_parent, args=(wanted["folder"],), daemon=True).start()
        return {"found": _intersect(psi, link, **wanted)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _load(name: str) -> Any:
    """A part of `spu` without the rest of it, which takes a second and loads jax."""
    if "spu" not in sys.modules:
        spec = find_spec("spu")
        if spec is None:
            raise ImportError("spu is not installed")
        package = types.ModuleType("spu")
        package.__path__ = list(spec.submodule_search_locations or ())
        sys.modules["spu"] = package
    return importlib.import_module(f"spu.{name}")


def _prepare(psi: Any) -> None:
    """Have `libpsi` raise an error of its own.

    It and `libspu` have a copy each of what unwinds C++ errors. A copy that has not raised any yet
    aborts the process when an error of the other passes through it, such as a partner's silence.
    """
    with contextlib.suppress(TypeError):
        psi.PsiExecuteConfig(protocol_conf=None)


def _end_with_parent(folder: str) -> None:
    sys.stdin.read()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _intersect(psi: Any, link: Any, folder: str, rank: int, seconds: int) -> int:
    """Run the protocol; how many ids are common, -1 at the sender."""
    os.chdir(folder)  # a socket's path may have 107 characters at most
    log = os.open("log", os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    hosts = ["unix:own", "unix:partner"]
    described = link.Desc()
    described.id = "isthmus"
    for name, host in zip(("receiver", "sender"), hosts if rank == 0 else hosts[::-1], strict=True):
        described.add_party(name, host)
    described.brpc_channel_connection_type = "single"
    described.recv_timeout_ms = described.http_timeout_ms = 1000 * seconds
    described.connect_retry_times = seconds
    described.connect_retry_interval_ms = 1000
    context = link.create_brpc(described, rank)
    # `psi_execute` greets once more, which is lost on a partner that has not yet heard the first.
    context.barrier()
    request = psi.PsiExecuteConfig(
        protocol_conf=psi.PsiProtocolConfig(
            protocol=psi.PsiProtocol.PROTOCOL_RR22,
            receiver_rank=0,
            broadcast_result=False,
            # The other mode loses a part of what is common, and does not say so.
            rr22_params=psi.Rr22Rarams(low_comm_mode=False),
        ),
        input_params=psi.InputParams(path="./ids.csv", selected_keys=["id"], keys_unique=True),
        output_params=psi.OutputParams(path="./found.csv", disable_alignment=True),
    )
    try:
        report = psi.psi_execute(request, context)
        context.stop_link()
    finally:
        _remove_trace()
    return int(report.intersection_count)


def _remove_trace() -> None:
    """Remove the timings that `spu` writes for itself, outside of our folder."""
    for path in re.findall(r"/tmp/psi_[\w-]+\.trace", Path("log").read_text(errors="replace")):
        with contextlib.suppress(OSError):
            Path(path).unlink()


if __name__ == "__main__":
    main()
