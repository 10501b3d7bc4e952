import pytest

from mixrag.corpus.parsers.table import table_lines


def lines(cells, **more):
    return table_lines(cells, **more)[0]


def test_every_value_stands_with_its_header():
    cells = [["Town", "Sheep", "Dogs"], ["Skarrow", "12", ""], ["Bergen", "", "7"]]
    assert lines(cells) == ["Town: Skarrow | Sheep: 12", "Town: Bergen | Dogs: 7"]


def test_a_period_over_the_years_is_in_every_header():
    expected = ["Wool | Years Ended June 30, 2023: 1,2 | Years Ended June 30, 2022: 9"]
    assert lines([["", "Years Ended June 30,", ""], ["", "2023", "2022"], ["Wool", "1,2", "9"]]) == expected
    assert lines([["Years Ended June 30,", "2023", "2022"], ["Wool", "1,2", "9"]]) == expected
    assert lines([["Years Ended June 30,", "", ""], ["", "2023", "2022"], ["Wool", "1,2", "9"]]) == expected


@pytest.mark.parametrize("unit", ["(in millions)", "Amounts in thousands", "€m"])
def test_the_unit_is_said_once_and_repeated_in_front_of_later_rows(unit):
    cells = [[unit, "2023", "2022"], ["Wool", "12", "9"]]
    assert table_lines(cells, caption="Sales") == (
        [f"Sales | {unit}", "Wool | 2023: 12 | 2022: 9"],
        f"Sales | {unit}",
    )
    assert lines([["", "2023", "2022"], ["", unit, ""], ["Wool", "12", "9"]])[0] == unit


def test_headers_over_groups_of_columns():
    left = [["", "Sheep", "", "Dogs", ""], ["", "2023", "2022", "2023", "2022"], ["Skarrow", "1", "2", "3", "4"]]
    assert lines(left) == ["Skarrow | Sheep 2023: 1 | Sheep 2022: 2 | Dogs 2023: 3 | Dogs 2022: 4"]
    centred = [
        ["", "", "Flock", "", "% change"],
        ["", "2023", "2022", "real", "gross"],
        ["Wool", "1", "2", "3", "4"],
    ]
    assert lines(centred) == [
        "Wool | Flock 2023: 1 | Flock 2022: 2 | % change real: 3 | % change gross: 4",
    ]


def test_none_continues_the_cell_on_its_left():
    cells = [
        ["", "2023", None, "", "2022", None],
        ["Wool", "$", "12", "", "$", "9"],
        ["Milk", "(1", ")", "", "", "8"],
    ]
    assert lines(cells) == ["Wool | 2023: $12 | 2022: $9", "Milk | 2023: (1) | 2022: 8"]


def test_a_dash_is_a_value_and_no_sign_of_the_next():
    assert lines([["", "2023", "2022"], ["Wool", "–", "12"]]) == ["Wool | 2023: – | 2022: 12"]


def test_years_may_have_units_notes_and_months():
    cells = [["", "2023 €m", "30 June 2022 (1)"], ["Wool", "12", "9"]]
    assert lines(cells) == ["Wool | 2023 €m: 12 | 30 June 2022 (1): 9"]


def test_later_years_replace_the_first_ones():
    cells = [["", "2023", "2022"], ["Wool", "12", "9"], ["", "2021", "2020"], ["Wool", "7", "6"], ["", "13", "12"]]
    assert lines(cells) == ["Wool | 2023: 12 | 2022: 9", "Wool | 2021: 7 | 2020: 6", "2021: 13 | 2020: 12"]


def test_a_title_of_the_next_rows_is_no_header():
    cells = [["", "2023", "2022"], ["Assets", "", ""], ["Wool", "12", "9"]]
    assert lines(cells) == ["Assets", "Wool | 2023: 12 | 2022: 9"]


def test_a_table_of_words_has_no_headers_unless_it_says_so():
    cells = [["Country", "Capital"], ["Norway", "Oslo"]]
    assert lines(cells) == ["Country | Capital", "Norway | Oslo"]
    assert lines(cells, header_rows=1) == ["Country: Norway | Capital: Oslo"]
    assert lines(cells[:1], header_rows=1) == ["Country | Capital"]


def test_long_headers_are_repeated_in_part_and_lost_nowhere():
    long = "word " * 400
    text = "\n".join(lines([["", long], *[[f"row {i}", str(i)] for i in range(1000)]], header_rows=1))
    assert long.strip() in text and len(text) < 200_000


def test_blank_rows_and_columns_are_left_out():
    assert lines([["", "", ""], ["Wool", "", "12"], ["", " ", ""]]) == ["Wool | 12"]
    assert table_lines([], caption="Fees") == (["Fees"], "")
