"""What the command line says while a job runs."""

from __future__ import annotations

from napari_hspnet.cli import screen


def test_a_log_gets_a_line_now_and_then(capsys, monkeypatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: clock[0])
    with screen.progress_bar() as advance:
        for done in range(100):
            clock[0] += 1.0
            advance("Segmenting", done / 100, 100.0 - done)
    assert capsys.readouterr().err.splitlines() == [
        "Segmenting, 29 %, 71 s left",
        "Segmenting, 59 %, 41 s left",
        "Segmenting, 89 %, 11 s left",
    ]


def test_what_is_over_soon_or_not_wanted_says_nothing(capsys) -> None:
    for shown in (True, False):
        with screen.progress_bar(shown) as advance:
            advance("Opening", None, None)
            advance("Segmenting", 0.5, 1.0)
    assert capsys.readouterr().err == ""
