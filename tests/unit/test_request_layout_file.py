"""Layouts of the operator's own: what is read, and that what is wrong is told by where it is."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.config.load import load
from openegress.core.errors import EgressError
from openegress.core.layout_spec import LayoutSpec, Region, RegionFit, Who
from openegress.core.selectors import Selectors
from openegress.request.layout_file import LayoutFaults, parse_layout, read_layout

PIXELS = {"width": 1280, "height": 720}
SCREEN, TEACHERS = Selectors.parse("source:screen_share").each, Selectors.parse("teacher-*").each
WHOLE = {"x": 0, "y": 0, "w": 1, "h": 1}


def test_all_that_there_is() -> None:
    regions = [
        {"x": 0, "y": 0, "w": 960, "h": 720, "who": "source:screen_share", "fit": "contain"},
        {"x": "960", "y": "0", "w": "320", "h": "180", "who": "speaker", "z": "2"},
        {"x": 960, "y": 180, "w": 320, "h": 540, "max": 3},
        {"x": 0, "y": 540, "w": 320, "h": 180, "who": "teacher-*", "nth": 2, "fit": "cover"},
    ]
    found = read_layout({"canvas": PIXELS, "background": "Navy", "regions": regions}, "lesson")
    assert found == LayoutSpec(
        "lesson",
        (
            Region(
                0, 0, 0.75, 1, selectors=Selectors.parse("source:screen_share").each, fit=RegionFit.CONTAIN
            ),
            Region(0.75, 0, 0.25, 0.25, Who.SPEAKER, z=2),
            Region(0.75, 0.25, 0.25, 0.75, max=3),
            Region(
                0, 0.75, 0.25, 0.25, selectors=Selectors.parse("teacher-*").each, nth=2, fit=RegionFit.COVER
            ),
        ),
        "#000080",
    )


@pytest.mark.parametrize(
    ("tree", "faults"),
    [
        ([], ["/: needs an object with canvas, regions, background"]),
        ({}, ["/regions: needs a list of 1 to 32 regions"]),
        ({"regions": [WHOLE] * 33}, ["/regions: needs a list of 1 to 32 regions"]),
        ({"regions": [3]}, ["/regions/0: needs an object with x, y, w, h"]),
        ({"regions": [WHOLE], "colour": 1}, ["/colour: unknown key"]),
        ({"regions": [WHOLE | {"width": 1}]}, ["/regions/0/width: unknown key"]),
        ({"regions": [{"x": 0, "y": 0, "w": 1}]}, ["/regions/0/h: is missing"]),
        (
            {"regions": [WHOLE, WHOLE | {"x": 0.75, "w": 0.5}]},
            ["/regions/1/w: 0.5 from x 0.75 on reaches beyond the picture; at most 0.25 fits"],
        ),
        (
            {"canvas": PIXELS, "regions": [{"x": 0, "y": 700, "w": 1280, "h": 100}]},
            ["/regions/0/h: 100 from y 700 on reaches beyond the picture; at most 20 fits"],
        ),
        ({"regions": [WHOLE | {"w": 0}]}, ['/regions/0/w: "0" is not a number from 0.01 to 1']),
        ({"regions": [WHOLE | {"x": "left"}]}, ['/regions/0/x: "left" is not a number from 0 to 1']),
        ({"regions": [WHOLE | {"x": True}]}, ['/regions/0/x: "True" is not a number']),
        ({"regions": [WHOLE | {"x": "nan"}]}, ['/regions/0/x: "nan" is not a number']),
        (
            {"regions": [WHOLE | {"fit": "fill"}]},
            ['/regions/0/fit: "fill" is not one of auto, cover'],
        ),
        ({"regions": [WHOLE | {"z": 1.5}]}, ['/regions/0/z: "1.5" is not a whole number']),
        ({"regions": [WHOLE | {"max": 99}]}, ['/regions/0/max: "99" is not a number from 1 to 25']),
        (
            {"regions": [WHOLE | {"who": "kind:robot"}]},
            ['/regions/0/who: "kind:robot" is not speaker,'],
        ),
        ({"regions": [WHOLE | {"who": ""}]}, ["/regions/0/who: needs speaker, anyone or selectors"]),
        (
            {"regions": [WHOLE | {"who": "speaker", "max": 2}]},
            ["/regions/0/max: only one person is"],
        ),
        ({"regions": [WHOLE | {"nth": 1, "max": 2}]}, ["/regions/0/nth: names one person, and max more"]),
        ({"regions": [WHOLE], "background": "#12"}, ['/background: "#12" is not a colour']),
        ({"regions": [WHOLE], "canvas": {"width": 9}}, ["/canvas/height: is missing"]),
        ({"regions": [WHOLE], "canvas": 9}, ["/canvas: needs an object with width, height"]),
        ({"regions": [WHOLE | {"a/b~": 1}]}, ["/regions/0/a~1b~0: unknown key"]),
        (
            {"regions": [{"x": 2, "y": 0, "w": 1, "h": 1}, {"y": 0, "w": 1, "h": 1}]},
            ['/regions/0/x: "2" is not', "/regions/1/x: is missing"],
        ),
    ],
)
def test_what_is_wrong_is_told_by_where_it_is(tree: object, faults: list[str]) -> None:
    with pytest.raises(LayoutFaults) as caught:
        read_layout(tree, "x")
    found = [str(each) for each in caught.value.faults]
    assert len(found) == len(faults), found
    assert all(a.startswith(b) for a, b in zip(found, faults, strict=True)), found


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"regions": [}'])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(LayoutFaults, match="this is not JSON"):
        parse_layout(text, "x")


NUMBERS = st.one_of(st.floats(), st.integers(-3, 3000), st.sampled_from(["0.5", "1", "x", ""]))
ANY = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
SOME_REGION = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("x", "y", "w", "h", "z", "max", "nth"), NUMBERS | ANY),
        "who": st.sampled_from(["speaker", "anyone", "bob", "kind:agent", "kind:robot"]) | ANY,
        "fit": st.sampled_from(["cover", "contain", "auto"]) | ANY,
        "bogus": ANY,
    },
)
FRACTIONS = st.floats(0, 1)
GOOD_REGION = st.tuples(FRACTIONS, FRACTIONS, FRACTIONS, FRACTIONS).map(
    lambda each: {
        "x": each[0] * 0.9,
        "y": each[1] * 0.9,
        "w": 0.01 + each[2] * (1 - each[0] * 0.9 - 0.01),
        "h": 0.01 + each[3] * (1 - each[1] * 0.9 - 0.01),
    }
)
TREES = st.fixed_dictionaries(
    {"regions": st.lists(SOME_REGION | GOOD_REGION | ANY, max_size=4)},
    optional={"canvas": st.just(PIXELS) | ANY, "background": ANY, "more": ANY},
)


@given(tree=TREES | ANY)
def test_any_tree_is_a_layout_within_the_picture_or_its_faults_are_in_it(tree: Any) -> None:
    try:
        spec = read_layout(tree, "x")
    except LayoutFaults as error:
        assert error.faults
        for fault in error.faults:
            assert points_into(tree, fault.pointer), fault
        return
    assert spec.regions
    for region in spec.regions:
        assert region.x >= 0 and region.y >= 0 and region.w > 0.0099 and region.h > 0.0099
        assert region.x + region.w <= 1 + 1e-9 and region.y + region.h <= 1 + 1e-9


@given(regions=st.lists(GOOD_REGION, min_size=1, max_size=5))
def test_what_lies_within_is_taken(regions: list[dict[str, float]]) -> None:
    assert len(read_layout({"regions": regions}, "x").regions) == len(regions)
    assert len(parse_layout(json.dumps({"regions": regions}), "x").regions) == len(regions)


def points_into(tree: Any, pointer: str) -> bool:
    """To a value of the tree, or to a key that an object of it lacks."""
    for key in (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]):
        if isinstance(tree, list):
            tree = tree[int(key)]
        elif isinstance(tree, dict):
            tree = next((value for each, value in tree.items() if key in (each, ascii(each)[1:-1])), None)
        else:
            return False
    return True


def test_layouts_come_from_files_and_inline(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"regions": [WHOLE]}))
    body = f"layouts: {{a: {tmp_path}/a.json, b: {{regions: [{{x: 0, y: 0, w: 0.5, h: 1}}]}}}}"
    assert list(load(body=body, environ={}).settings.layouts) == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("layouts: {a: /not/there.json}", "layouts.a: /: /not/there.json cannot be read"),
        (
            "layouts: {a: {regions: [{x: 0, y: 0, w: 2, h: 1}]}}",
            'layouts.a: /regions/0/w: "2" is not',
        ),
        ("layouts: {grid: {regions: [{x: 0, y: 0, w: 1, h: 1}]}}", "layouts.grid: is the name of a built-in"),
        ("layouts: {a b: {regions: [{x: 0, y: 0, w: 1, h: 1}]}}", "layouts.a b: is not a name of letters"),
        (
            "layouts: {a: {background: stage, regions: [{x: 0, y: 0, w: 1, h: 1}]}}",
            'layouts.a: /background: "stage" is not one of overlays.backgrounds',
        ),
    ],
)
def test_the_configuration_is_checked(body: str, error: str) -> None:
    with pytest.raises(EgressError) as caught:
        load(body=body, environ={})
    assert caught.value.message.startswith(f"--config-body: {error}"), caught.value.message
