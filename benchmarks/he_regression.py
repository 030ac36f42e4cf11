"""Encrypted gradients beside FATE's Paillier, and a whole credit model between two parties.

make bench NAME=he_regression ARGS='--peer-python peer/bin/python'
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.crypto import he, products
from isthmus.linear import LinearOptions, LinearResult, fit, predict
from isthmus.linear.arbiter import Plan, Sums
from isthmus.linear.precision import Precision
from isthmus.metrics import auc, ks
from isthmus.session import Session, run_parties

TITLE = "Logistic regression by homomorphic encryption: a step beside FATE's, and a whole fit"
SUMMARY = """\
The step is X'r of 1,024 rows and 30 columns, r encrypted at one party and X plain at the other:
encryption, the bytes both ways, products, masks, decryption and fixed point here; encoding,
encryption, the product and decryption at the peer, `fate_utils`, FATE's Paillier in Rust, with keys
of 2048 bits, in the same run on one core. (2048 bits of Paillier are about 112 bits of security,
ours are 128.) Both are processor time, as the machine was shared. The fit is FATE's default_credit,
30,000 rows, 13 columns at the label party and 10 at the other, two threads over links in memory, at
the default tolerance, on 70 % of the rows drawn at random for the AUC and KS of the other 30 %, and
on all rows for the time. Pooled is scikit-learn's logistic regression of the same rows without a
penalty, in the same run. The last rows are of the protocols `moments` and `arbiter`, which show
nothing by row and fit the Taylor series of the loss. A step under an arbiter's key is one feature
party's share of it: it encrypts its predictor, the label party encrypts its own and adds the two,
then as above; the fit is by steps of all rows at a tolerance of 0.1 standard errors, three parties
together."""

PEER = Path(__file__).parent / "peers" / "fate_paillier.py"
ROWS, COLUMNS = 1024, 30
ARBITER = LinearOptions(protocol="arbiter", arbiter="arbiter", tolerance=0.1)
Floats = NDArray[np.float64]


def main() -> None:
    """Measure the step and the fit, and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("ISTHMUS_DATA"))
    parser.add_argument("--peer-python", type=Path, required=True, help="it has fate_utils")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    machine = machine_facts()
    rng = np.random.default_rng(0)
    r, x = rng.normal(size=ROWS), rng.normal(size=(ROWS, COLUMNS))
    ours = [_step(r, x) for _ in range(args.repeats)]
    peer = _peer(args.peer_python, r, x)
    ours += [_step(r, x) for _ in range(args.repeats)]
    arbiter = [_arbiter_step(r, x) for _ in range(args.repeats)]
    credit = _credit(args.data / "vfl_default_credit")
    publish(_result(ours, arbiter, peer, credit, machine))


def _step(r: Floats, x: Floats) -> dict[str, float]:
    """One encrypted gradient with all that crosses the line, but not the line."""
    precision, shape = Precision.of(ROWS), products.Shape(ROWS, COLUMNS)
    key = he.HeKey()
    public = he.HePublic(key.public())
    whole, units = precision.columns(x)
    begin, used = time.perf_counter(), time.process_time()
    values, exponent = precision.residuals(r)
    asked = he.pack(products.encrypted(key, shape, values))
    received = he.unpack(public, asked, shape.asked)
    answers, off = products.masked(public, shape, received, whole)
    answered = he.pack(answers)
    sums = products.opened(key, shape, he.unpack(key, answered, shape.answered))
    found = np.ldexp(products.unmasked(sums, off) * units, exponent)
    return {
        "cpu_seconds": time.process_time() - used,
        "seconds": time.perf_counter() - begin,
        "error": float(np.abs(found - r @ x).max()),
        "bytes_up": float(asked["bytes"].size),
        "bytes_down": float(answered["bytes"].size),
    }


def _arbiter_step(r: Floats, x: Floats) -> dict[str, float]:
    """The same under an arbiter's key, of r in two halves that the parties encrypt."""
    parties = ("guest", "host", "arbiter")
    session = Session(me="host", parties=parties, label_party="guest")
    plan = Plan.of(session, ROWS, ARBITER)
    key = he.HeKey()
    public = he.HePublic(key.public())
    sums, rows = Sums(public, plan, x), np.arange(ROWS)
    begin, used = time.perf_counter(), time.process_time()
    theirs = he.unpack(public, he.pack(sums.predictor(r / 2)), 1)
    both = he.pack([sums.predictor(r - r / 2)[0] + theirs[0]])
    answered = sums.masked(rows, he.unpack(public, both, 1))
    shape = products.Shape(ROWS, COLUMNS)
    # Read twice: by the label party, which relays it, and by the arbiter.
    he.unpack(public, answered, shape.answered)
    opened = products.opened(key, shape, he.unpack(key, answered, shape.answered))
    found = sums.unmasked(opened)
    return {
        "cpu_seconds": time.process_time() - used,
        "seconds": time.perf_counter() - begin,
        "error": float(np.abs(found - r @ x).max()),
    }


def _peer(python: Path, r: Floats, x: Floats) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step.npz"
        np.savez(path, r=r, x=x)
        environment = {**os.environ, "RAYON_NUM_THREADS": "1"}
        command = [str(python), str(PEER), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _credit(folder: Path) -> dict[str, Any]:
    guest, host = pl.read_csv(folder / "guest.csv"), pl.read_csv(folder / "host.csv")
    y = guest["y"].to_numpy().astype(float)
    tables = {"guest": guest.drop("id", "y").to_numpy(), "host": host.drop("id").to_numpy()}
    begin, used = time.perf_counter(), time.process_time()
    whole = _fit(tables, y)
    out: dict[str, Any] = {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - used,
        "rounds": whole["guest"].rounds,
        "vectors": whole["host"].shown,
    }
    pooled = _pooled(np.column_stack(list(tables.values())), y)
    mine = np.concatenate([whole[party].coefficients for party in tables])
    out["coefficients_differ"] = float(np.abs(mine - pooled.coef_[0]).max())
    order = np.random.default_rng(0).permutation(len(y))
    train, test = np.split(order, [int(0.7 * len(y))])
    at_train = {party: table[train] for party, table in tables.items()}
    parts, begin = _fit(at_train, y[train]), time.process_time()
    coarse = {"moments": _fit(at_train, y[train], LinearOptions(protocol="moments"))}
    out["moments_cpu_seconds"] = time.process_time() - begin
    begin = time.process_time()
    coarse["arbiter"] = _fit(at_train, y[train], ARBITER)
    out["arbiter_cpu_seconds"] = time.process_time() - begin
    out["arbiter_steps"] = coarse["arbiter"]["guest"].rounds
    pooled = _pooled(np.column_stack(list(tables.values()))[train], y[train])
    for name, rows in {"train": train, "test": test}.items():
        at = {party: table[rows] for party, table in tables.items()}
        scores = _scores(parts, at)
        reference = pooled.decision_function(np.column_stack(list(at.values())))
        out[name] = {
            "auc": auc(y[rows], scores),
            "ks": ks(y[rows], scores),
            "pooled_auc": auc(y[rows], reference),
            "pooled_ks": ks(y[rows], reference),
        }
        for protocol, result in coarse.items():
            coarser = _scores(result, at)
            out[name][f"{protocol}_auc"] = auc(y[rows], coarser)
            out[name][f"{protocol}_ks"] = ks(y[rows], coarser)
    return out


def _fit(
    tables: Mapping[str, Floats], y: Floats, options: LinearOptions | None = None
) -> dict[str, LinearResult]:
    def program(session: Session) -> LinearResult:
        labels = y if session.is_label_party else None
        return fit(session, tables.get(session.me), labels, options)

    parties = [*tables, *([options.arbiter] if options and options.arbiter else [])]
    return run_parties(dict.fromkeys(parties, program), label_party="guest")


def _scores(parts: Mapping[str, LinearResult], at: Mapping[str, Floats]) -> Floats:
    programs = {party: functools.partial(_predict, parts[party], at.get(party)) for party in parts}
    found: Floats = run_parties(programs, label_party="guest")["guest"]
    return found


def _predict(result: LinearResult, data: Floats | None, session: Session) -> Floats | None:
    return predict(session, result, data)


def _pooled(x: Floats, y: Floats) -> LogisticRegression:
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000, solver="newton-cholesky")
    return model.fit(x, y)


def _result(
    ours: list[dict[str, float]],
    arbiter: list[dict[str, float]],
    peer: dict[str, Any],
    credit: dict[str, Any],
    machine: dict[str, Any],
) -> Result:
    step = min(one["cpu_seconds"] for one in ours)
    under_arbiter = min(one["cpu_seconds"] for one in arbiter)
    theirs = peer["cpu_seconds"]
    test = credit["test"]
    return Result(
        name="he_regression",
        title=TITLE,
        summary=SUMMARY,
        bars=[
            Bar("processor time of a step: FATE's Paillier over ours", theirs / step, 200.0),
            Bar("the same under an arbiter's key", theirs / under_arbiter, 200.0),
            Bar("whole default_credit: two minutes over ours", 120.0 / credit["seconds"], 1.0),
            Bar("test AUC over the pooled model's", test["auc"] / test["pooled_auc"], 0.9999),
            Bar("test KS over the pooled model's", test["ks"] / test["pooled_ks"], 0.999),
        ],
        columns=["what", "FATE or pooled", "ours"],
        rows=[
            ["a gradient step, processor s", f"{theirs:.2f}", f"{step:.4f}"],
            ["its largest error", f"{peer['error']:.0e}", f"{ours[0]['error']:.0e}"],
            ["a step under an arbiter's key, processor s", "", f"{under_arbiter:.4f}"],
            ["its largest error", "", f"{arbiter[0]['error']:.0e}"],
            ["default_credit, whole fit, s", "", f"{credit['seconds']:.1f}"],
            ["its processor time, both parties, s", "", f"{credit['cpu_seconds']:.1f}"],
            [
                "encrypted gradients / vectors shown",
                "",
                f"{credit['rounds']} / {credit['vectors']}",
            ],
            ["largest difference of a coefficient", "", f"{credit['coefficients_differ']:.0e}"],
            *(
                [
                    f"{name} AUC / KS",
                    f"{credit[name]['pooled_auc']:.4f} / {credit[name]['pooled_ks']:.4f}",
                    f"{credit[name]['auc']:.4f} / {credit[name]['ks']:.4f}",
                ]
                for name in ("train", "test")
            ),
            [
                "test AUC / KS from moments alone (Taylor loss)",
                "",
                f"{test['moments_auc']:.4f} / {test['moments_ks']:.4f}",
            ],
            ["its processor time, both parties, s", "", f"{credit['moments_cpu_seconds']:.1f}"],
            [
                "test AUC / KS with an arbiter (Taylor loss)",
                "",
                f"{test['arbiter_auc']:.4f} / {test['arbiter_ks']:.4f}",
            ],
            [
                "its steps / processor time, three parties, s",
                "",
                f"{credit['arbiter_steps']} / {credit['arbiter_cpu_seconds']:.1f}",
            ],
        ],
        raw={"ours": ours, "arbiter": arbiter, "fate": peer, "credit": credit},
        machine=machine,
        versions=versions("tenseal", "numpy", "scikit-learn") | {"fate_utils": "0.1.0"},
    )


if __name__ == "__main__":
    main()
