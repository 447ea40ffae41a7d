"""What the journal's entries are called, on screen and on the command line."""

import pytest

from napari_hspnet.cases.journal import Entry
from napari_hspnet.cases.words import area_text, describe, grade_name, local_time


def entry(kind, body, seq=7):
    return Entry(seq, "2026-11-24T10:00:00.000+00:00", "Dr. Ann", kind, body, "", "", "")


def edit(**body):
    said = {"tool": "regrade", "box": [9000, 6000, 9040, 6480], "changes": {"2>3": 480_000}}
    return entry("edit", said | body)


FIRST, SECOND = ({"id": f"run-{i}", "model": f"net {i}", "sha256": "12"} for i in (1, 2))
BOX = [0, 0, 100, 200]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (edit(), "regrade CIN1 → CIN2 0.12 mm² at x 3,120 y 4,510 µm"),
        (
            edit(tool="brush", changes={"0>4": 4, "3>3": 8, "253>1": 400}),
            "brush no tissue → normal 100 µm², CIN2 unchanged 2 µm², none of the four → CIN3 1 µm² "
            "at x 3,120 y 4,510 µm",
        ),
        (
            edit(
                changes={"0>1": 4, "0>2": 80, "0>3": 400, "0>4": 400, "1>1": 12, "2>2": 4},
                tool="shape",
            ),
            "set grade none of the four → CIN2 100 µm², none of the four → CIN3 100 µm², "
            "none of the four → CIN1 20 µm², normal unchanged 3 µm², others 2 µm² "
            "at x 3,120 y 4,510 µm",
        ),
        (
            edit(continues=True, left_locked=[3, 5]),
            "regrade CIN1 → CIN2 0.12 mm² at x 3,120 y 4,510 µm, part of the act before it; "
            "regions 3, 5 are signed off and stayed as they were",
        ),
        (entry("undo", {"of": [12], "tool": "brush", "box": BOX}), "undo of 12 (brush) at x 50"),
        (entry("redo", {"of": [12, 13, 14], "tool": "brush"}), "redo of 12 to 14 (brush)"),
        (entry("undo", {"of": [12, 15], "tool": ""}), "undo of 12, 15"),
        (entry("runs", {"active": []}), "no run is shown"),
        (entry("runs", {"active": [FIRST]}), "run run-1 (net 1) is topmost"),
        (entry("runs", {"active": [FIRST, SECOND]}), "run run-2 (net 2) is topmost, 1 beneath it"),
        (entry("begin", {"name": "a.svs", "fingerprint": "ab" * 32}), "case begun for a.svs (abab"),
        (
            entry("begin", {"name": "a.svs", "fingerprint": "ab" * 32, "migrated_from": 1}),
            "journal begun for a.svs (abababababab…), a case of format 1",
        ),
        (
            entry(
                "begin",
                {
                    "name": "a.svs",
                    "fingerprint": "ab" * 32,
                    "rescued_from": "case.sqlite.damaged",
                    "lost": ["entry 3"],
                },
            ),
            "journal begun anew after damage for a.svs (abababababab…), 1 loss",
        ),
        (
            entry(
                "regions",
                {
                    "do": "state",
                    "state": "signed off",
                    "regions": [3],
                    "said_by": ["Dr. Ben", "2026-11-20T10:00:00.000+00:00"],
                },
            ),
            "region 3 signed off, as Dr. Ben had said on 2026-11-20",
        ),
        (
            entry(
                "slide",
                {
                    "from": {"name": "a.svs", "fingerprint": "ab" * 32},
                    "to": {"name": "b.svs", "fingerprint": "cd" * 32},
                },
            ),
            "attached to b.svs (cdcdcdcdcdcd…), before that to a.svs (abababababab…)",
        ),
        (
            entry(
                "regions",
                {
                    "do": "add",
                    "kind": "component",
                    "regions": [{"id": 3, "pixels": 80_000, "box": BOX}],
                },
            ),
            "region 3 added (part of the overlay, 0.020 mm²) at x 50 y 25 µm",
        ),
        (
            entry(
                "regions",
                {
                    "do": "add",
                    "kind": "tile",
                    "regions": [{"id": i, "pixels": 4, "box": BOX} for i in (3, 4, 5)],
                },
            ),
            "regions 3 to 5 added (each a tile of a grid, 3 µm²)",
        ),
        (
            entry("regions", {"do": "state", "state": "signed off", "regions": [3]}),
            "region 3 signed off",
        ),
        (entry("regions", {"do": "tag", "tag": "AIS", "regions": [3]}), "region 3 tagged AIS"),
        (entry("regions", {"do": "tag", "tag": "", "regions": [3]}), "region 3 no longer tagged"),
        (
            entry("regions", {"do": "comment", "text": "look\nagain", "regions": [3]}),
            "comment on region 3: look again",
        ),
        (
            entry("regions", {"do": "remove", "regions": list(range(1, 20, 2))}),
            "regions 1, 3, 5, 7, 9, 11 and 4 more taken off the list",
        ),
        (
            entry("runs", {"active": [], "clock": "2026-11-23T10:00:00.000+00:00"}),
            "no run is shown (the clock had gone back to 2026-11-23T10:00:00.000+00:00)",
        ),
        (entry("novel", {"x": 1}), "novel"),
        (edit(changes={"two": "three"}), "edit (damaged"),
        (entry("regions", {"do": "add", "regions": [3]}), "regions (damaged"),
        (entry("slide", {}), "slide (damaged"),
    ],
)
def test_an_entry_in_a_line(what, words):
    said = describe(what, 0.5)
    assert said.startswith(words)
    assert "\n" not in said


def test_grades_have_names():
    assert [grade_name(value) for value in (0, 1, 4, 253)] == [
        "none of the four",
        "normal",
        "CIN3",
        "no tissue",
    ]


@pytest.mark.parametrize(
    ("um2", "words"),
    [
        (0, "0 µm²"),
        (1, "1 µm²"),
        (9_994, "9,994 µm²"),
        (9_996, "0.010 mm²"),
        (120_000, "0.12 mm²"),
        (12_345_678, "12.3 mm²"),
        (2_345_678_901, "2,345.7 mm²"),
    ],
)
def test_areas_have_sensible_digits(um2, words):
    assert area_text(um2 * 4, 0.5) == words


def test_times_carry_their_offset(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert local_time("2026-11-24T10:00:01.999+00:00") == "2026-11-24 05:00:01-05:00"
    finally:
        monkeypatch.undo()
        time.tzset()
