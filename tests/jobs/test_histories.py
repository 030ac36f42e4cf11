"""Histories, vectors and the split by time in a job, from its tables to the pooled reference."""

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from isthmus.data import Encoder
from isthmus.errors import DataError, JobError, SchemaError
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.histories import events_in, load_events
from isthmus.jobs.measured import Measured
from isthmus.jobs.pooled import add_pooled
from isthmus.jobs.precheck import check_own_side
from isthmus.jobs.steps import align, encode

FEATURES = {
    "{Age: numeric, Income: numeric, Trait1: categorical, Trait2: categorical}": """
      Age: numeric
      Trait1: categorical
      Seen: {kind: sequence, separator: "|", length: 3}
      Face: {kind: vector, width: 2, separator: " "}
      Views: {kind: sequence, of: Page, by: UserID, time: Moment, events: alice/views.csv,
              length: 4}
""",
    "      ItemID: categorical\n": """\
      ItemID: categorical
      Before: {kind: sequence, of: ItemID, by: Who, time: When, where: "Clicked == 1",
               share: ItemID, length: 5}
""",
    '"Clicked == 1"}\n': '"Clicked == 1", time: When, share_time: true}\nsplit: {by: time}\n',
}


@pytest.fixture
def past(workshop):
    """The workshop with times, lists, vectors, and a table of views at alice."""
    rng = np.random.default_rng(5)

    def add_times(events):
        return events.with_columns(
            pl.Series("When", rng.integers(0, 400, len(events))),
            pl.Series("Who", rng.integers(0, 40, len(events))),
        )

    def add_lists(people):
        seen = ["|".join(rng.choice(list("abcd"), rng.integers(0, 6))) for _ in range(len(people))]
        face = [f"{x:.3f} {y:.3f}" if x < 1 else "" for x, y in rng.normal(size=(len(people), 2))]
        return people.with_columns(pl.Series("Seen", seen), pl.Series("Face", face))

    workshop.spoil("bob", add_times)
    workshop.spoil("alice", add_lists)
    pl.DataFrame(
        {
            "UserID": rng.integers(0, 60, 900),
            "Page": rng.integers(0, 20, 900),
            "Moment": rng.integers(0, 400, 900),
        }
    ).write_csv(workshop.folder / "alice" / "views.csv")
    for old, new in FEATURES.items():
        workshop.change(old, new)
    return workshop


def inputs_of(workshop, job, party):
    """The encoded features, the party's rows by sample, and its layout."""
    folder = workshop.results(job, party)
    rows = np.load(folder / "align" / "rows.npy")
    return encode.load(folder / "encode"), rows, folder / "encode"


def items_of(workshop, job, party, name):
    """The items of each sample's history, as text; None where one is unknown."""
    features, _, folder = inputs_of(workshop, job, party)
    encoder = Encoder.load(folder / "encoder.json")
    (field,) = [one for one in (*encoder.fields, *encoder.histories) if one.name == name]
    place = features.layout.field(name)
    index, _ = features.gather(np.arange(len(features)))
    known = [None, None, *field.known.vocabulary.to_list()]
    return [
        [known[code - place.first_row] for code in row if code] for row in index[:, place.columns]
    ]


def by_hand(events, owners, at, *, of, by, time, length, known):
    found = []
    for owner, moment in zip(owners, at, strict=True):
        mine = events.filter((pl.col(by) == owner) & (pl.col(time) < moment))
        items = mine.sort(time, maintain_order=True)[of].cast(pl.String).to_list()[-length:]
        found.append([item if item in known else None for item in items])
    return found


def clicked_before(events, owners, at, known):
    """What `Before` is at bob: the last five items that their owner had clicked."""
    clicked = events.filter(pl.col("Clicked") == 1)
    columns = {"of": "ItemID", "by": "Who", "time": "When"}
    return by_hand(clicked, owners, at, **columns, length=5, known=known)


def viewed_before(past, owners, at, known):
    """What `Views` is at alice: the last four pages that their owner had viewed."""
    views = pl.read_csv(past.folder / "alice" / "views.csv")
    columns = {"of": "Page", "by": "UserID", "time": "Moment"}
    return by_hand(views, owners, at, **columns, length=4, known=known)


def vocabulary(folder, name):
    encoder = Encoder.load(folder / "encoder.json")
    fields = {one.name: one for one in (*encoder.fields, *encoder.histories)}
    return set(fields[name].known.vocabulary)


def test_a_job_with_histories_is_split_as_it_is_pooled(past):
    job = past.job("evaluate.pooled=true", "train.epochs=3")
    for party in job.spec.order:
        check_own_side(job, party)
    pages = past.run(job)
    add_pooled(job, past.out / job.folder_name)
    bob = PartyFolder(pages["bob"].parent)
    scores = Measured.load(bob.step("evaluate").file("scores.safetensors")).scores["federation"]
    pooled = load_file(bob.step("pooled").file("scores.safetensors"))["pooled"]
    np.testing.assert_allclose(scores, pooled, atol=1e-5)
    report = past.report(job, "alice")
    assert report["training"]["hyper_parameters"]["split"].startswith("by ")
    kinds = {feature["name"]: feature["kind"] for feature in report["data"]["features"]}
    assert {kinds[name] for name in ("Views", "Seen")} == {"sequence"}
    assert kinds["Face"] == "vector"

    events, people = pl.read_csv(past.table("bob")), pl.read_csv(past.table("alice"))
    _, rows, folder = inputs_of(past, job, "bob")
    when = events["When"].to_numpy()[rows]
    split = encode.load_split(folder, len(rows))
    assert when[split.train].max() <= when[split.valid].min()
    assert when[split.valid].max() <= when[split.test].min()
    assert len(split.test) == round(len(rows) * 0.2)

    told = past.report(job, "bob")["data"]["sequences"]
    (before,) = told
    assert (before["name"], before["length"], before["by"]) == ("Before", 5, "Who")
    assert before["where"] == "Clicked == 1"
    long = [len(one) for one in items_of(past, job, "bob", "Before")]
    assert before["mean_items"] == pytest.approx(np.mean(long))
    assert before["empty"] == pytest.approx(np.mean(np.equal(long, 0)))
    assert 0 < before["empty"] < 1
    numbered, used = events.with_row_index("row").filter(pl.col("Clicked") == 1), set()
    for owner, moment in zip(events["Who"].gather(rows), when, strict=True):
        mine = numbered.filter((pl.col("Who") == owner) & (pl.col("When") < moment))
        used |= set(mine.sort("When", maintain_order=True)["row"].tail(5))
    assert before["events_used"] == len(used) > 100
    sequences = {one["name"]: one for one in report["data"]["sequences"]}
    # Each party is told of its own sequences alone.
    assert set(sequences) == {"Seen", "Views"}
    assert sequences["Seen"]["events_used"] is None
    listed = people["Seen"].gather(inputs_of(past, job, "alice")[1]).str.split("|")
    lengths = listed.list.eval(pl.element().filter(pl.element() != "")).list.len().fill_null(0)
    assert sequences["Seen"]["mean_items"] == pytest.approx(lengths.clip(0, 3).mean())
    assert sequences["Seen"]["empty"] == pytest.approx((lengths == 0).mean())

    known = vocabulary(folder, "ItemID")
    wanted = clicked_before(events, events["Who"].gather(rows), when, known)
    assert items_of(past, job, "bob", "Before") == wanted
    assert sum(map(len, wanted)) > 300

    _, theirs, folder = inputs_of(past, job, "alice")
    assert (encode.load_split(folder, len(rows)).test == split.test).all()
    known = vocabulary(folder, "Views")
    wanted = viewed_before(past, people["UserID"].gather(theirs), when, known)
    assert items_of(past, job, "alice", "Views") == wanted
    lists = people["Seen"].gather(theirs).fill_null("").str.split("|").to_list()
    wanted = [[item for item in row if item][-3:] for row in lists]
    assert items_of(past, job, "alice", "Seen") == wanted


@pytest.mark.parametrize("events", ["", "events: bob/../bob/events.csv, "])
def test_under_a_random_split_histories_hold_training_rows_alone(past, events):
    past.change("split: {by: time}\n", "")
    past.change("               share: ItemID", f"               {events}share: ItemID")
    job = past.job("train.epochs=1", "evaluate.alone=false")
    past.run(job)
    events = pl.read_csv(past.table("bob")).with_row_index("row")
    _, rows, folder = inputs_of(past, job, "bob")
    train = rows[encode.load_split(folder, len(rows)).train]
    training = events.filter(pl.col("row").is_in(train.tolist()))
    when, known = events["When"].to_numpy()[rows], vocabulary(folder, "ItemID")
    wanted = clicked_before(training, events["Who"].gather(rows), when, known)
    assert items_of(past, job, "bob", "Before") == wanted


def test_a_split_in_groups_of_others_than_the_history_s_owners(past):
    """A sample of one item may be later than a held-out one of another: training rows alone."""
    past.change("split: {by: time}", "split: {by: time, per: ItemID}")
    job = past.job("train.epochs=1", "evaluate.alone=false")
    past.run(job)
    events = pl.read_csv(past.table("bob")).with_row_index("row")
    _, rows, folder = inputs_of(past, job, "bob")
    split = encode.load_split(folder, len(rows))
    frame = events[rows].with_columns(
        pl.Series("test", np.isin(np.arange(len(rows)), split.test).astype(int))
    )
    late = frame.group_by("ItemID").agg(
        pl.col("When").filter(pl.col("test") == 0).max().alias("before"),
        pl.col("When").filter(pl.col("test") == 1).min().alias("after"),
    )
    assert (late["before"] <= late["after"]).drop_nulls().all()
    training = events.filter(pl.col("row").is_in(rows[split.train].tolist()))
    when, known = events["When"].to_numpy()[rows], vocabulary(folder, "ItemID")
    wanted = clicked_before(training, events["Who"].gather(rows), when, known)
    assert items_of(past, job, "bob", "Before") == wanted


def test_entity_keys_give_each_sample_its_own_history(past):
    """Alice has one row a user; what they viewed before depends on the sample's time."""
    past.spoil("alice", lambda people: people.unique("UserID").drop("ID"))
    users = pl.read_csv(past.table("alice"))["UserID"]

    def give_users(events):
        return events.with_columns(
            pl.Series("UserID", users.gather(np.arange(len(events)) % len(users)))
        )

    past.spoil("bob", give_users)
    past.change("align: {key: ID}", "align: {key: UserID, keys: entity}")
    job = past.job("train.epochs=1", "train.model.name=din", "train.model.attention.tokens=2")
    past.run(job)
    events = pl.read_csv(past.table("bob"))
    _, rows, _ = inputs_of(past, job, "bob")
    _, _, folder = inputs_of(past, job, "alice")
    when, known = events["When"].to_numpy()[rows], vocabulary(folder, "Views")
    wanted = viewed_before(past, events["UserID"].gather(rows), when, known)
    assert items_of(past, job, "alice", "Views") == wanted


@pytest.mark.parametrize(
    ("old", "new", "party", "error", "said"),
    [
        (", share_time: true", "", "alice", JobError, "Views.*nothing tells the time of a sample"),
        ("alice/views.csv", "alice/no.csv", "alice", DataError, "there is no table .*no.csv"),
        ("of: Page", "of: Leaf", "alice", SchemaError, "views.csv has no column 'Leaf'"),
        ("time: Moment", "time: Page, at: Hour", "alice", SchemaError, "has no column 'Hour'"),
        ("width: 2", "width: 3", "alice", SchemaError, "'Face' holds vectors not of width 3"),
        ('"Clicked == 1",\n', '"Clicked == 7",\n', "bob", DataError, "no event of .* counts"),
        ("time: When, share", "time: Whence, share", "bob", SchemaError, "no column 'Whence'"),
        ("{by: time}", "{by: time, per: Whom}", "bob", SchemaError, "no column 'Whom'"),
    ],
)
def test_what_a_party_can_find_wrong_alone(past, old, new, party, error, said):
    past.change(old, new)
    with pytest.raises(error, match=f"(?s){said}"):
        check_own_side(past.job(), party)


@pytest.mark.parametrize("where", ["Page != '07'", "Page > 7"])
def test_ids_keep_their_zeros_where_a_condition_is_on_them(past, where):
    views = past.folder / "alice" / "views.csv"
    frame = pl.read_csv(views).with_columns(
        pl.col("Page").cast(pl.String).str.zfill(2), pl.col("UserID").cast(pl.String).str.zfill(3)
    )
    frame.write_csv(views)
    past.change("time: Moment,", f'time: Moment, where: "{where}",')
    feature = past.job().spec.parties["alice"].features["Views"]
    table = load_events(past.job(), "alice", "Views", feature)
    assert table["Page"].to_list() == frame["Page"].to_list()
    owners = frame["UserID"].unique()
    events, _ = events_in(table, feature, owners, source="views.csv")
    kept = {f"{page:02}" for page in range(20)} - ({"07"} if "!" in where else set())
    assert set(events.items) == {page for page in kept if "!" in where or int(page) > 7}


LATER = "time: When, at: Later, where"


def with_a_later_time(past):
    late = (pl.col("When") + (pl.col("Who") == 3)).alias("Later")
    past.spoil("bob", lambda events: events.with_columns(late))


@pytest.mark.parametrize("path", ["", "events: bob/../bob/events.csv, "])
def test_no_row_tells_its_own_label_by_its_own_history(past, path):
    with_a_later_time(past)
    past.change("time: When, where", path + LATER)
    with pytest.raises(DataError, match=r"Before: .* stand in their own history"):
        check_own_side(past.job(), "bob")
    job = past.job("train.epochs=1", "evaluate.alone=false")
    assert "own history" in str(past.run(job)["bob"])


def test_a_history_that_reads_no_label_may_hold_the_row_itself(past):
    with_a_later_time(past)
    past.change('time: When, where: "Clicked == 1"', "time: When, at: Later")
    job = past.job("train.epochs=1", "evaluate.alone=false")
    check_own_side(job, "bob")
    assert past.run(job)["bob"].exists()


def test_a_missing_time_of_a_sample_is_refused(past):
    past.spoil("bob", lambda events: events.with_columns(When=pl.col("When").replace(7, None)))
    found = past.run(past.job())
    assert "the time 'When' is missing in" in str(found["bob"])


def test_a_changed_event_table_is_noticed(past):
    job = past.job("train.epochs=1", "evaluate.alone=false")
    past.run(job)
    mark = (past.results(job, "alice") / "align" / align.TABLE).read_text()
    assert "Views: views.csv" in mark
    views = past.folder / "alice" / "views.csv"
    pl.read_csv(views).head(800).write_csv(views)
    before = (past.results(job, "alice") / "encode" / "histories" / "0.items.npy").stat().st_size
    past.run(job, resume=True)
    after = (past.results(job, "alice") / "encode" / "histories" / "0.items.npy").stat().st_size
    assert after < before
