import numpy as np

from isthmus.data import infer_schema, load_table, parse_label
from isthmus.data.synthetic import SyntheticOptions, synthetic_tables


def test_the_tables_overlap_as_asked():
    made = synthetic_tables(1)
    assert made.key == "ID"
    assert len(made.alice) == len(made.bob) == 1818
    assert len(made.alice.join(made.bob, on="ID")) == made.common == 1636
    assert made.alice["ID"].to_list() != made.bob["ID"].to_list()


def test_entity_keys():
    made = synthetic_tables(1, SyntheticOptions(keys="entity"))
    assert made.key == "UserID"
    assert made.alice["UserID"].n_unique() == len(made.alice) == 182
    assert len(set(made.alice["UserID"]) & set(made.bob["UserID"])) == made.common


def test_a_seed_gives_the_same_world():
    one, same, other = synthetic_tables(1), synthetic_tables(1), synthetic_tables(2)
    assert one.bob.equals(same.bob)
    assert one.alice.equals(same.alice)
    assert not one.bob.equals(other.bob)


def test_the_label_needs_both_tables():
    options = SyntheticOptions(rows=20_000, missing=0.0, empty=0.0)
    made = synthetic_tables(3, options)
    rows = made.alice.join(made.bob, on="ID")
    clicked = rows["Clicked"].to_numpy()
    assert 0.3 < clicked.mean() < 0.7
    income = rows["Income"].to_numpy() - 30_000
    log_price = np.log(rows["Price"].to_numpy()) - 2
    alone = abs(np.corrcoef(income, clicked)[0, 1])
    together = np.corrcoef(income * log_price, clicked)[0, 1]
    assert together > alone + 0.2


def test_options_shape_the_tables(tmp_path):
    made = synthetic_tables(1, SyntheticOptions(user_fields=1, item_fields=4, values=3, empty=0.5))
    assert made.alice.columns == ["ID", "UserID", "Age", "Income", "Trait1"]
    assert made.bob.columns[1:] == [
        *("ItemID", "Price", "Sort1", "Sort2", "Sort3", "Sort4", "Tags", "Clicked")
    ]
    assert made.alice["Trait1"].n_unique() == 3
    assert made.alice["Income"].null_count() > 0
    alice, bob = made.write(tmp_path)
    assert load_table(alice).equals(made.alice)
    assert infer_schema(load_table(bob)).features["Tags"].kind == "multi_hot"
    assert parse_label("Clicked").evaluate(load_table(bob)).mean() > 0
