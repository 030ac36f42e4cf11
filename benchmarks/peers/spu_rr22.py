"""One party of RR22 by `spu` alone: run by the Python of the peer's environment, by `psi_rr22`.

Usage: python spu_rr22.py RANK OWN_PORT PARTNER_PORT IDS.csv FOUND.csv

Rank 0 gets the result. It says "ready" once it is connected, begins at a line on its standard
input, and answers with a line of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time

import spu.libspu.link as links
from spu import psi


def main() -> None:
    """Connect, wait for the word, run, answer."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    rank, own, partner = map(int, sys.argv[1:4])
    described = links.Desc()
    for port in (own, partner) if rank == 0 else (partner, own):
        described.add_party(str(port), f"127.0.0.1:{port}")
    context = links.create_brpc(described, rank)
    context.barrier()
    request = psi.PsiExecuteConfig(
        protocol_conf=psi.PsiProtocolConfig(
            protocol=psi.PsiProtocol.PROTOCOL_RR22,
            receiver_rank=0,
            broadcast_result=False,
            rr22_params=psi.Rr22Rarams(low_comm_mode=False),
        ),
        input_params=psi.InputParams(path=sys.argv[4], selected_keys=["id"], keys_unique=True),
        output_params=psi.OutputParams(path=sys.argv[5], disable_alignment=True),
    )
    print("ready", file=answers, flush=True)
    sys.stdin.readline()
    begin, cpu = time.perf_counter(), _cpu_seconds()
    report = psi.psi_execute(request, context)
    seconds, cpu = time.perf_counter() - begin, _cpu_seconds() - cpu
    context.stop_link()
    answer = {"seconds": seconds, "cpu_seconds": cpu, "common": report.intersection_count}
    print(json.dumps(answer), file=answers, flush=True)


def _cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


if __name__ == "__main__":
    main()
