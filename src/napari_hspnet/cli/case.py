"""``napari-hspnet case``: the work on a slide, looked at and continued without a window."""

from __future__ import annotations

import typer

from napari_hspnet.cli import (
    case_change,
    case_mend,
    case_reading,
    case_review,
    case_shape,
    case_show,
)

__all__ = ["app"]

app = typer.Typer(
    help="Look at a case, correct and review it, without a window or the slide's file.",
    no_args_is_help=True,
)
app.command("show")(case_show.show_case)
app.command("log")(case_show.log_case)
app.command("replay")(case_show.replay_case)
app.command("verify")(case_mend.verify)
app.command("rescue")(case_mend.rescue)
app.command("attach")(case_change.attach_case)
app.command("undo")(case_change.undo_acts)
app.command("redo")(case_change.redo_acts)
app.command("regrade")(case_change.regrade_part)
app.command("grade")(case_change.grade_inside)
app.command("accept")(case_change.accept_as_is)
app.command("grow")(case_shape.grow_part)
app.command("shrink")(case_shape.shrink_part)
app.command("fill-holes")(case_shape.fill_holes)
app.command("drop-specks")(case_shape.drop_specks)
app.command("regions")(case_review.list_regions)
app.command("region-add")(case_review.add_regions)
app.command("region-set")(case_review.set_regions)
app.command("disagreements")(case_review.list_disagreements)
app.command("second-reading")(case_reading.second_reading)
app.command("compare")(case_reading.compare_readings)
