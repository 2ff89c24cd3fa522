"""Texts of strangers in Markdown: they stay texts, in one cell of one line."""

import pytest

from experiments import __main__
from experiments.reporting.markdown import code, escaped, link
from tests.experiments.stored_results import equality, growth, store, store_profile

HOSTILE = (
    "a | b\n## c <img src=x onerror=y> [d](http://e) `f` **g** _h_ &lt; \\| $i$ ~j~\r\x1b www.k.l"
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("conv1 + relu1, 3 x 3: 50% (p20 to p80)", "conv1 + relu1, 3 x 3: 50% (p20 to p80)"),
        ("gradient_input channels_last", "gradient_input channels_last"),
        ("_a_ b_ _c", r"\_a\_ b\_ \_c"),
        ("a|b", r"a\|b"),
        ("a\\|b", r"a\\\|b"),
        ("a\nb\r\tc\0\u2028d", "a b  c  d"),
        ("<b>", r"\<b>"),
        ("[a](b) ![c](d)", r"\[a\](b) !\[c\](d)"),
        ("https://a.b www.c.d", r"https\://a.b www\.c.d"),
        ("`a` *b* ~c~ $d$ &amp;", r"\`a\` \*b\* \~c\~ \$d\$ \&amp;"),
        ("\ud800", "?"),
    ],
)
def test_escaped(text, shown):
    assert escaped(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"), [("a", "`a`"), ("a `b` ``c", "``` a `b` ``c ```"), ("a\nb", "`a b`")]
)
def test_code(text, shown):
    assert code(text) == shown


def test_link():
    assert link("a_b", "../x y/(z)/a_b.md") == "[a_b](../x%20y/%28z%29/a_b.md)"
    assert link("a]b|", "a]b|") == r"[a\]b\|](a%5Db%7C)"


def test_hostile_texts_stay_in_their_cells(tmp_path):
    """Whatever nets, devices and folders are called: the same lines and cells as always."""
    pages = []
    for text, name in (("harmless", "a name"), (HOSTILE, "a | b\n<b> [c](d) `e`")):
        out = tmp_path / name / "results"
        record = dict.fromkeys(("cpu", "backend", "commit", "python", "command"), text)
        record |= {"versions": {text: text}, "gpu": text}
        store(out, equality(net=text, gradients_worst=text), machine=name, **record)
        store(out, growth(), "growth", name, **record)
        rows = [{"target": "local", "of": text, "case": text, "value": 1}]
        store_profile(out, rows, name=name, **record)
        assert __main__.main(["report", "--out", str(out)]) == 0
        pages.append([path.read_text() for path in sorted(out.rglob("*.md"))])
    harmless, hostile = pages
    assert len(harmless) == len(hostile) == 4
    for page, expected in zip((p.replace(code(HOSTILE), "") for p in hostile), harmless):
        shapes = [
            [(line.replace(r"\|", "").count("|"), line.startswith("#")) for line in lines]
            for lines in (page.splitlines(), expected.splitlines())
        ]
        assert shapes[0] == shapes[1]
        for markup in ("<img", "[d]", "`f`", "**g", "_h_", "&lt", "$i", "~j", "http://", "www."):
            assert f" {markup}" not in page
