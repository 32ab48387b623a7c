"""YAML: one meaning for each value, and nothing that grows. What two readers take for two things is refused."""

import pytest
import yaml

from seed_hf.yaml_text import DEEPEST, LARGEST, check_expansion, parse_yaml, read_yaml
from yaml_bomb import bomb


def test_plain_values():
    text = """\
    words: [a cat, y, v1, 1.1.1, 'no', "12:30", tRUE, <|im_end|>]
    numbers: [0, -3, +4, 0x1F, 1.5, .5, 1e-4, 3E5, -.inf]
    others: [true, False, null, ~, ]
    block: |
      two
      lines
    no: a key is text
    base: &base {a: 1, b: 2}
    more: {<<: *base, b: 3}
    """
    found = parse_yaml(text)
    assert found["words"] == ["a cat", "y", "v1", "1.1.1", "no", "12:30", "tRUE", "<|im_end|>"]
    assert found["numbers"] == [0, -3, 4, 31, 1.5, 0.5, 1e-4, 3e5, float("-inf")]
    assert found["others"] == [True, False, None, None] and found["block"] == "two\nlines\n"
    assert found["no"] == "a key is text" and found["more"] == {"a": 1, "b": 3}
    assert parse_yaml("") is None and parse_yaml("7") == 7 and parse_yaml("\ufeffa: b") == {"a": "b"}


def test_what_pyyaml_writes_is_read_as_it_was():
    shared = ["no", "2026-01-02", "1:30"]
    values = {"a": shared, "b": shared, "c": {"on": 1e-5, "x": [1, -2.5, True, None, "", "~", "0777", "1_000", "="]}}
    assert parse_yaml(yaml.safe_dump(values)) == values


NORWAY = ["no", "Yes", "on", "OFF", "2026-01-02", "2001-12-14t21:59:43.10-05:00", "12:30", "190:20:30", "1:30.5"]
NORWAY += ["0777", "007.5", "08", "0o17", "0b11", "1_000", "685_230.15", "="]


@pytest.mark.parametrize("value", NORWAY)
def test_what_two_readers_take_for_two_things_is_refused(value):
    for text in (f"a: {value}", f"- [x, {value}]", value):
        with pytest.raises(ValueError, match="line 1: .* in quotes"):
            parse_yaml(text)
    assert parse_yaml(f"a: '{value}'") == {"a": value}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (bomb(), "line 6: its aliases make more than 200,000"),
        (bomb().replace("[", "[{<<: {k: v}}, "), "aliases make more"),
        (f"a: &a {'x' * (LARGEST // 2)}\nb: [*a, *a]", "aliases make more"),
        ("m: &m {a: 1}\nx: {<<: [" + "*m, " * 49_000 + "]}", "aliases make more"),
        ("a: &a [1, *a]", "a part of"),
        ("a: *b", "stands for nothing"),
        ("[" * 1000, f"more than {DEEPEST} levels"),
        ("- " * 1000 + "x", f"more than {DEEPEST} levels"),
        ("{a: " * 300, f"more than {DEEPEST} levels"),
        ("x" * (LARGEST + 1), "more than 200,000 characters"),
        ("a: " + "9" * 5000, "5000 digits"),
        ("a: 1e999", "too large"),
        ('a: "\\ud800"', "half a character"),
        ("a: 1\nb: 2\na: 3", "line 3: 'a' stands twice"),
        ("a: 1\n---\na: 2", "second document"),
        ("? [a]\n: b", "key must be text"),
        ("a: !!python/object/apply:os.system [ls]", "tag .* is not read"),
        ("a: !!timestamp x", "tag .* is not read"),
        ("!!set {a, b}", "tag .* is not read"),
        ("a: {<<: 3}", "<< takes over"),
        ("a: [", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_what_is_no_plain_yaml_is_one_short_error(text, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse_yaml(text)
    assert len(str(caught.value)) < 500


def test_files_are_named(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: b")
    assert read_yaml(path) == {"a": "b"}
    for content, words in ((b"a: no", "line 1"), (b"a: \xe9", "UTF-8"), (b"x" * (5 * LARGEST), "more than")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"a.yaml: .*{words}"):
            read_yaml(path)


def test_a_text_for_others_is_asked_only_whether_it_grows():
    """The card of a data set on the Hub: bare dates and versions are its own matter."""
    for sound in ("a: 2026-01-02\nb: no\n", "base: &b {x: [1, 2]}\nmore: [*b, *b]", "x: " + "y" * 3 * LARGEST, "a: ["):
        check_expansion(sound)
    for grows in (bomb(), "a: &a [*a]", "a: &a " + "z" * 1000 + "\nb: [" + ", ".join(["*a"] * 5000) + "]"):
        with pytest.raises(ValueError, match="its aliases make more than"):
            check_expansion(grows)
