import base64
import re
from xml.etree import ElementTree

from plotly.graph_objects import Figure

from evforge.reports.html import (
    SCRIPT,
    STYLE,
    command,
    details,
    image,
    images,
    link,
    page,
    paragraph,
    plot,
    plots,
    section,
    table,
)

EVIL = '<b> & "quotes"'


def parsed(text):
    return ElementTree.fromstring(
        re.sub(r"<script>.*?</script>", "", text.removeprefix("<!DOCTYPE html>\n"), flags=re.S)
    )


def test_a_page_has_its_title_twice_and_its_sections_in_order():
    tree = parsed(page(EVIL, [section("One", "<p>a</p>"), section("Two", "<p>b</p>", "<p>c</p>")]))
    assert tree.findtext("head/title") == tree.findtext("body/h1") == EVIL
    assert [(part.tag, part.text) for part in tree.find("body")][1:] == [
        ("h2", "One"),
        ("p", "a"),
        ("h2", "Two"),
        ("p", "b"),
        ("p", "c"),
    ]


def test_text_is_escaped_everywhere():
    parts = [
        paragraph(EVIL),
        table([EVIL], [[EVIL]]),
        image(b"\x89PNG\x00\xff", EVIL),
        command(EVIL),
        details(EVIL),
        link(EVIL, 'http://a/"b'),
        plots({EVIL: ""}),
    ]
    body = parsed(page("a", [section(EVIL, *parts)])).find("body")
    paths = ("h2", "p", ".//th", ".//td", ".//figcaption", ".//code", ".//summary", ".//a", ".//h3")
    assert [body.findtext(path) for path in paths] == [EVIL] * len(paths)
    assert body.find(".//img").get("alt") == EVIL and body.find(".//a").get("href") == 'http://a/"b'


def test_a_table_has_its_numbers_on_the_right():
    tree = parsed(table(["name", "mAP"], [["a", "0.5"], ["b", "0.25"]], numbers=[1]))
    cells = [[(cell.tag, cell.text, cell.get("class")) for cell in row] for row in tree.iter("tr")]
    assert cells == [
        [("th", "name", None), ("th", "mAP", "number")],
        [("td", "a", None), ("td", "0.5", "number")],
        [("td", "b", None), ("td", "0.25", "number")],
    ]


def test_a_table_without_names_of_columns_has_no_head():
    tree = parsed(table(["", ""], [["a", "b"]]))
    assert tree.find(".//thead") is None and tree.find("table").get("class") is None
    assert parsed(table(["a.b"], [["c"]], sortable=True)).find("table").get("class") == "sortable"
    assert "<th>a.<wbr/>b</th>" in table(["a.b"], [["c.d"]]) and "<td>c.d</td>" in table(["a.b"], [["c.d"]])
    both = parsed(table(["a"], [["c"]], [0], sortable=True))
    assert both.find("table").get("class") == "compact sortable" and both.find(".//thead") is not None
    assert parsed(table(["", "a"], [["b", "c"]])).find(".//thead") is not None
    assert "".join(parsed(table(["a.b"], [["c"]])).find(".//th").itertext()) == "a.b"


def test_an_image_is_embedded():
    source = parsed(images([image(b"\x89PNG\x00\xff", "a")])).find(".//img").get("src")
    kind, _, data = source.partition(",")
    assert kind == "data:image/png;base64" and base64.b64decode(data) == b"\x89PNG\x00\xff"


def test_plotly_is_embedded_once_and_only_for_figures():
    figure = plot(Figure(layout_height=250).add_scatter(x=[1], y=[2], name="</script>"))
    assert "min-width: 0px" in figure and "min-width: 330px" in plot(Figure(layout_meta={"least_width": 330}))
    assert figure.count("</script>") == 1 and "min-height: 250px" in figure and "<noscript>" in figure
    with_figures, without = page("a", [figure, figure]), page("a", ["text"])
    assert with_figures.index("plotly.js v") < with_figures.index(SCRIPT), "the figures need plotly"
    assert SCRIPT in without and STYLE in without
    assert with_figures.count("plotly.js v") == 1 and len(with_figures) > 4_000_000
    assert "plotly.js v" not in without and len(without) < 10_000
