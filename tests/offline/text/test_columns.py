import pyarrow as pa

from offline.text.columns import texts

TABLE = pa.table(
    {
        "item_id": ["a", "b", "c", "d"],
        "title": ["Red Lamp", " ", None, "Mug"],
        "price": [1.0, 2.0, 3.0, 4.0],
        "tags": [["home", " light"], [None, "x"], None, []],
        "sizes": [[1], [2], [3], [4]],
        "on_sale": [True, False, True, False],
        "about": pa.array(["it glows", None, None, ""], pa.large_string()),
    }
)


def test_all_columns_of_text_and_lists_of_it_are_one_text() -> None:
    assert texts(TABLE, "item_id") == ["Red Lamp home light it glows", "x", "", "Mug"]


def test_a_table_without_text_has_empty_ones() -> None:
    assert texts(TABLE.select(["item_id", "price"]), "item_id") == [""] * 4
