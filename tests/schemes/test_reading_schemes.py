"""Scheme files: those shipped are sound, and what cannot be is refused by its file, line and key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glombridge.errors import InputError, UsageError
from glombridge.objects import PathClass
from glombridge.schemes import SHIPPED, load_scheme, parse_scheme, scheme_json, shipped_scheme
from glombridge.schemes.reading import WINDOW_KEYS
from glombridge.settings import ReviewSettings, Settings, load_settings, render_settings

OWN = """format = 1
name = "own"
version = "2"
title = "My own"
dominance = ["A b", "C d"]

[[lesions]]
name = "A b"
key = "q"
label = "Ab"
color = "#aa3377"

[[lesions]]
name = "C d"
key = "1"
label = "Cd"
max = 3
excludes = ["A b"]

[[case_items]]
name = "Item"
levels = ["none", "some"]

[[shares]]
name = "Share"
any_of = ["A b"]

[[scores]]
name = "Score"
share = "Share"
source = "Somebody 1999"
levels = [{ value = 0, label = "low" }, { value = 2, label = "high", from_percent = 25 }]

[[indices]]
name = "Index"
max = 5
source = "Somebody 1999"
parts = [{ item = "Score", weight = 2 }, { item = "Item" }]
"""


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_schemes_keep_the_keys_of_the_window_free(name: str) -> None:
    scheme = shipped_scheme(name)
    assert scheme.name == name
    assert not {lesion.key for lesion in scheme.lesions} & WINDOW_KEYS.keys()
    assert {lesion.name for lesion in scheme.lesions} == set(scheme.dominance)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_cut_off_and_index_of_a_shipped_scheme_is_cited(name: str) -> None:
    scheme = shipped_scheme(name)
    assert scheme.sources
    rules = [*scheme.scores, *scheme.indices, *scheme.shares, *scheme.case_items]
    assert all(rule.source for rule in rules)
    assert scheme.adequacy is None or scheme.adequacy.source


def test_colours_of_a_shipped_scheme_come_from_one_colour_blind_safe_palette() -> None:
    # Paul Tol's schemes, as in Technical Note SRON/EPS/TN/09-002 issue 3.2.
    bright = {"#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB"}
    muted = {"#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99"}
    muted |= {"#999933", "#AA4499", "#DDDDDD"}
    for name in SHIPPED:
        colors = [lesion.color for lesion in shipped_scheme(name).lesions]
        assert len(set(colors)) == len(colors)
        assert set(colors) <= bright or set(colors) <= muted


def test_the_json_is_what_the_review_format_says() -> None:
    made = scheme_json(parse_scheme(OWN, "own.toml"), ["Glomerulus"], "Rejected*")
    assert json.loads(json.dumps(made)) == {
        "format": 1,
        "name": "own",
        "version": "2",
        "title": "My own",
        "classes": ["Glomerulus"],
        "rejected": "Rejected*",
        "lesions": [
            {
                "name": "A b",
                "key": "Q",
                "label": "Ab",
                "max": 1,
                # "C d" excludes it, and that holds both ways.
                "excludes": ["C d"],
                "color": "#AA3377",
            },
            {
                "name": "C d",
                "key": "1",
                "label": "Cd",
                "max": 3,
                "excludes": ["A b"],
                "color": "#BBBBBB",
            },
        ],
        "dominance": ["A b", "C d"],
        "shares": [{"name": "Share", "any_of": ["A b"], "min_grade": 1, "without": []}],
    }


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        pytest.param("format = 1\n", "", "needs 'format = 1'", id="no-format"),
        pytest.param("title =", "titel =", "titel", id="unknown-key"),
        pytest.param('key = "q"', 'kye = "q"', r"lesions\[1\] \(A b\).kye", id="key-of-lesion"),
        pytest.param('key = "1"', 'key = "Q"', r"line 15: .*Q is the key of 'A b'", id="one-key"),
        pytest.param('key = "q"', 'key = "A"', "line 9: .*needs A for 'accept'", id="window-key"),
        pytest.param('key = "q"', 'key = "s"', "needs S for 'image searched'", id="small-s"),
        pytest.param('key = "q"', 'key = "F1"', "one letter or digit", id="key-too-long"),
        pytest.param("max = 3", "max = 0", r"lesions\[2\] \(C d\).max", id="max"),
        pytest.param('"A b", "C d"]', '"A b", "D"]', "dominance: 'D' is no lesion", id="dominance"),
        pytest.param(
            '["A b", "C d"]', '["A b"]', "'C d' has a label and is miss", id="dominance-2"
        ),
        pytest.param('label = "Ab"', 'label = "Proposed"', "line 10: .*Proposed", id="proposed"),
        pytest.param('label = "Ab"', 'label = "Missed"', "something else", id="missed"),
        pytest.param('label = "Ab"', 'label = "False"', "something else", id="false"),
        pytest.param('label = "Ab"', 'label = "Rejected*"', "something else", id="rejected"),
        pytest.param('label = "Ab"', 'label = "a: b"', "cannot be read back", id="label-colon"),
        pytest.param('label = "Ab"', 'label = "Cd"', "is the label of 'A b' already", id="labels"),
        pytest.param('excludes = ["A b"]', 'excludes = ["Z"]', "'Z' is no other", id="excludes"),
        pytest.param('"#aa3377"', '"purple"', "a colour as #AA3377", id="color"),
        pytest.param('any_of = ["A b"]', 'any_of = ["Z"]', "'Z' is no lesion", id="share-lesion"),
        pytest.param('any_of = ["A b"]', "any_of = []", "at least one lesion", id="share-empty"),
        pytest.param('share = "Share"', 'share = "Z"', "'Z' is no share", id="score-of-nothing"),
        pytest.param("from_percent = 25", "from_percent = 250", "0 to 100", id="percent"),
        pytest.param(", from_percent = 25", "", "the first has no bound", id="no-bound"),
        pytest.param("value = 2", "value = 0", "must rise", id="levels-fall"),
        pytest.param("max = 5", "max = 6", "add up to 5, got 6", id="index-max"),
        pytest.param('item = "Item"', 'item = "Z"', "neither a score nor", id="index-part"),
        pytest.param('name = "Index"', 'name = "Share"', "stands there 2 times", id="same-name"),
        pytest.param('name = "Index"', 'name = "graded"', "another column", id="column-name"),
        pytest.param('["none", "some"]', '["none"]', "at least two", id="item-levels"),
        pytest.param('source = "Somebody 1999"\nlevels', "levels", "source", id="no-source"),
        pytest.param("[[shares]]", "[[shares", "not valid TOML", id="not-toml"),
    ],
)
def test_schemes_that_cannot_be(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "own.toml"
    assert old in OWN
    path.write_text(OWN.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=says) as caught:
        load_scheme(path)
    assert str(path) in str(caught.value)


def test_all_faults_are_named_at_once() -> None:
    text = OWN.replace('key = "q"', 'key = "N"').replace('any_of = ["A b"]', 'any_of = ["Z"]')
    with pytest.raises(InputError, match=r"(?s)needs N.*'Z' is no lesion"):
        parse_scheme(text, "own.toml")


def test_a_scheme_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_scheme(tmp_path / "none.toml")


class TestInSettings:
    """What a scheme means to everything that asks for the class of an object."""

    def test_labels_count_as_the_detector_class(self) -> None:
        settings = Settings(review=ReviewSettings(scheme="three-grade"))
        for name in ("Glomerulus", "Glomerulus: Severe", "Glomerulus: Sclerotic"):
            assert settings.class_index(PathClass.parse(name)) == 0
        for name in ("Glomerulus: Proposed", "Severe", "Tubule: Severe", "Glomerulus: Crescent"):
            assert settings.class_index(PathClass.parse(name)) is None
        assert settings.class_aliases == {
            "Glomerulus": [
                "Glomerulus",
                "Glomerulus: Slight",
                "Glomerulus: Severe",
                "Glomerulus: Sclerotic",
            ]
        }

    def test_without_a_scheme_nothing_changes(self) -> None:
        settings = Settings()
        assert settings.scheme is None
        assert settings.class_aliases == settings.classes
        assert settings.class_index(PathClass.parse("Glomerulus: Severe")) is None

    def test_what_the_settings_say_of_a_class_wins(self) -> None:
        settings = Settings(
            classes={"Glomerulus": ["Glomerulus"], "Scar": ["Glomerulus: Sclerotic"]},
            unused=["Glomerulus: Slight"],
            review=ReviewSettings(scheme="three-grade"),
        )
        assert settings.class_index(PathClass.parse("Glomerulus: Sclerotic")) == 1
        assert settings.class_index(PathClass.parse("Glomerulus: Slight")) is None
        assert settings.class_aliases == {
            "Glomerulus": ["Glomerulus", "Glomerulus: Severe"],
            # The other detector class can be graded as well.
            "Scar": ["Glomerulus: Sclerotic", "Scar: Slight", "Scar: Severe", "Scar: Sclerotic"],
        }

    def test_a_scheme_of_ones_own_lies_beside_the_settings(self, tmp_path: Path) -> None:
        (tmp_path / "own.toml").write_text(OWN, encoding="utf-8")
        settings = Settings(review=ReviewSettings(scheme="own.toml"))
        file = tmp_path / "glombridge.toml"
        file.write_text(render_settings(settings), encoding="utf-8")
        read = load_settings(file)
        assert read.scheme is not None
        assert read.scheme.stamp == "own 2"
        assert read.class_index(PathClass.parse("Glomerulus: Cd")) == 0
        with pytest.raises(UsageError, match="load_settings"):
            _ = settings.scheme

    @pytest.mark.parametrize(
        ("scheme", "says"),
        [
            ("lupsu", "no grading scheme 'lupsu'"),
            ("none.toml", r"scheme in \[review\].*cannot be read"),
        ],
    )
    def test_schemes_that_are_not_there(self, tmp_path: Path, scheme: str, says: str) -> None:
        file = tmp_path / "glombridge.toml"
        file.write_text(f'[review]\nscheme = "{scheme}"\n', encoding="utf-8")
        with pytest.raises(InputError, match=says) as caught:
            load_settings(file)
        assert str(file) in str(caught.value)

    @pytest.mark.parametrize("name", SHIPPED)
    def test_settings_with_a_scheme_read_back_equal(self, tmp_path: Path, name: str) -> None:
        settings = Settings(review=ReviewSettings(scheme=name, counting=["a.svs"]))
        file = tmp_path / "glombridge.toml"
        file.write_text(render_settings(settings), encoding="utf-8")
        assert load_settings(file) == settings
