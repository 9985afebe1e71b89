from benchmarks.interests_plot import plot
from benchmarks.trials import DIFFERENCE, Row


def test_a_panel_a_data_set_and_a_point_a_model() -> None:
    rows = [
        Row(dataset, model, "HR@20", group, 0.1, ci95, 3)
        for dataset in ("one", "two")
        for model, ci95 in (("MUR", 0.01), ("kNN", None))
        for group in (None, "tail")
    ]
    rows.append(Row("one", "IDW − MUR", f"HR@20 {DIFFERENCE}", "tail", 0.1, 0.01, 3))
    figure = plot(rows, ("MUR", "IDW"))
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == ["MUR", "kNN"]
        assert len(axes.containers) == 2
