"""Real data over real TLS: FATE's breast_hetero, as if it lay in one place."""

import os
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from isthmus.link import Listener, create_identity, open_links, trust
from isthmus.session import Session
from isthmus.stats import (
    BinningOptions,
    exchange_profiles,
    fit_bins,
    fit_pca,
    fit_woe,
    shown_profile,
    woe_table,
)
from isthmus.stats.columns import read
from isthmus.stats.shown import ProfilePolicy

pytest.importorskip("tenseal")


@pytest.fixture(scope="module")
def breast():
    default = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("ISTHMUS_DATA", default)) / "vfl_breast"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    guest, host = pl.read_csv(folder / "guest.csv"), pl.read_csv(folder / "host.csv")
    both = guest.select("id", "y").join(host, on="id", maintain_order="left")
    return guest.drop("id", "y"), both.drop("id", "y"), guest["y"].to_numpy()


def over_tls(folder, programs):
    """Run two parties' programs over one TLS connection; the first is the label party."""
    (alice, bob), found = programs, {}
    made = {name: create_identity(folder / name, name) for name in programs}
    trust(folder / alice, made[bob].certificate_path)
    trust(folder / bob, made[alice].certificate_path)
    listener = Listener(folder / alice, alice)

    def party(me, partner, address):
        listen = {"listen": listener} if me == alice else {}
        links = open_links(folder / me, me, {partner: address}, context="job", **listen)
        session = Session(me=me, parties=(alice, bob), label_party=alice, links=links)
        found[me] = programs[me](session)
        links[partner].close()

    other = threading.Thread(target=party, args=(bob, alice, listener.address))
    other.start()
    party(alice, bob, None)
    other.join()
    listener.close()
    return found


def test_a_look_at_breast_hetero(tmp_path, breast):
    own, partner, label = breast
    options = BinningOptions(method="monotone", bins=6, least=10)

    def looked(table, y):
        def program(session):
            shown = exchange_profiles(session, table)
            fit = fit_woe(session, table, label=y, options=options)
            return shown, fit, fit_pca(session, table, components=4)

        return program

    found = over_tls(tmp_path, {"guest": looked(own, label), "host": looked(partner, None)})
    seen, woe, pca = found["guest"]
    assert seen["host"] == shown_profile(partner, ProfilePolicy())
    cut = fit_bins(partner, options, label.astype(bool))
    theirs = {c.column: c.table for c in woe.columns if c.party == "host"}
    assert len(theirs) == partner.width == 20
    for name, bins in cut.items():
        codes = bins.codes(read(partner[name]))
        hits = np.bincount(codes, weights=label, minlength=bins.count)
        assert theirs[name] == woe_table(np.bincount(codes), hits)
    scores = pca.scores(own) + found["host"][2].scores(partner)
    pooled = StandardScaler().fit_transform(np.hstack([own.to_numpy(), partner.to_numpy()]))
    expected = PCA(4, svd_solver="full").fit_transform(pooled)
    signs = np.sign((scores * expected).sum(axis=0))
    np.testing.assert_allclose(scores * signs, expected, atol=1e-6)
