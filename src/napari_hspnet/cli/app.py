"""The commands together, and what an error becomes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from napari_hspnet import __version__
from napari_hspnet.classes import RESEARCH_USE_ONLY
from napari_hspnet.cli import (
    case,
    crossval,
    demo,
    evaluate,
    export,
    finetune,
    import_,
    info,
    judge,
    models,
    phantom,
    predict,
    reproduce,
    train,
    train_demo,
    window,
)
from napari_hspnet.cli.screen import note
from napari_hspnet.errors import CancelledError, HspnetError
from napari_hspnet.jobs.threads import let_threads_sleep

__all__ = ["DONE", "FAILED", "INTERRUPTED", "USER_ERROR", "app", "main"]

DONE, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="napari-hspnet",
    help="Segment cervical precancer (normal, CIN1, CIN2, CIN3) on whole slide images. "
    "Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("info")(info.show_info)
app.command("predict")(predict.predict_slides)
app.command("export")(export.export_files)
app.command("import")(import_.import_file)
app.command("demo")(demo.run_demo)
app.command("open")(window.open_window)
app.add_typer(case.app, name="case")
app.command("phantom")(phantom.make_phantom)
app.command("train")(train.train)
app.command("train-demo")(train_demo.train)
app.command("judge-phantom")(judge.judge)
app.command("evaluate")(evaluate.evaluate)
app.command("crossval")(crossval.cross_validate)
app.command("reproduce")(reproduce.reproduce)
app.command("finetune")(finetune.finetune)
app.add_typer(models.app, name="models")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"napari-hspnet {__version__}")
        raise typer.Exit


@app.callback()
def _everywhere(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    if isinstance(context.obj, dict):
        context.obj["debug"] = debug
    note(f"{RESEARCH_USE_ONLY}. Not a medical device.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; `sys.argv` by default.

    Returns
    -------
    int
        0 done, 1 a fault of the program, 2 the user's error, 130 interrupted.
    """
    let_threads_sleep()
    said = {"debug": False}
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=given, prog_name="napari-hspnet", obj=said)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else DONE if end.code is None else FAILED
    except (CancelledError, KeyboardInterrupt):
        note("Interrupted; nothing half-written was left.")
        return INTERRUPTED
    except HspnetError as error:
        _detail(said["debug"])
        note(f"Error: {error}")
        return USER_ERROR
    except Exception as error:
        _detail(said["debug"])
        note(
            f"Unexpected error: {type(error).__name__}: {error}. Run again with "
            "`napari-hspnet --debug …` for details, and report it."
        )
        return FAILED
    return DONE


def _detail(debug: bool) -> None:
    if debug:
        traceback.print_exc()
