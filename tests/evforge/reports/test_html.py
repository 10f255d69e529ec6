import base64
from xml.etree import ElementTree

from evforge.reports.html import image, page, paragraph, section, table

EVIL = '<b> & "quotes"'


def parsed(text):
    return ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>\n"))


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


def test_text_is_escaped_everywhere(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\x00\xff")
    parts = [paragraph(EVIL), table([EVIL], [[EVIL]]), image(tmp_path / "a.png", EVIL)]
    body = parsed(page("a", [section(EVIL, *parts)])).find("body")
    assert [body.findtext(path) for path in ("h2", "p", ".//th", ".//td", ".//figcaption")] == [EVIL] * 5
    assert body.find(".//img").get("alt") == EVIL


def test_a_table_has_its_numbers_on_the_right():
    tree = parsed(table(["name", "mAP"], [["a", "0.5"], ["b", "0.25"]], numbers=[1]))
    cells = [[(cell.tag, cell.text, cell.get("class")) for cell in row] for row in tree.iter("tr")]
    assert cells == [
        [("th", "name", None), ("th", "mAP", "number")],
        [("td", "a", None), ("td", "0.5", "number")],
        [("td", "b", None), ("td", "0.25", "number")],
    ]


def test_an_image_is_embedded(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\x00\xff")
    source = parsed(image(tmp_path / "a.png", "a")).find("img").get("src")
    kind, _, data = source.partition(",")
    assert kind == "data:image/png;base64" and base64.b64decode(data) == b"\x89PNG\x00\xff"
