"""Tables of figures on stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

__all__ = ["print_table"]

_WIDE = 240


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows, the headings first, as Markdown has them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    table = RichTable(box=box.MARKDOWN)
    for number, title in enumerate(rows[0]):
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*row)
    # A table that is piped into a file is not cut to 80 columns.
    wide = None if sys.stdout.isatty() else _WIDE
    console = Console(file=sys.stdout, highlight=False, markup=False, width=wide)
    with console.capture() as caught:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in caught.get().splitlines() if line.strip()))
