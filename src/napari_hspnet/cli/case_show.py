"""``napari-hspnet case show|log|replay|verify``: what a case holds and held."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_hspnet.classes import DEMO_BANNER, RESEARCH_USE_ONLY
from napari_hspnet.cli.case_parts import (
    AsAfter,
    AsJson,
    CaseFolder,
    Until,
    entry_facts,
    parse_time,
    require_journal,
    sequence_at,
    working,
)
from napari_hspnet.cli.screen import print_json
from napari_hspnet.errors import InputError

if TYPE_CHECKING:
    from napari_hspnet.cases import Case, Composite, Entry, RunInfo

__all__ = ["log_case", "replay_case", "show_case"]


def show_case(
    folder: CaseFolder,
    at: AsAfter = None,
    until: Until = None,
    entry: Annotated[
        int | None, typer.Option("--entry", metavar="SEQ", help="This entry of the journal alone.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a case holds: slide, runs, areas, corrections, review, readers."""
    from napari_hspnet.cases import Case

    if entry is not None and (at is not None or until is not None):
        raise InputError("--entry shows one entry, whatever the time", advice="Leave the other out")
    with Case.open(folder) as case:
        if entry is not None:
            require_journal(case)
            _show_entry(case, entry, as_json)
            return
        said = _facts(case, sequence_at(case, at, until))
    if as_json:
        print_json(said)
        return
    for line in _lines(said):
        typer.echo(line)


def log_case(
    folder: CaseFolder,
    reader: Annotated[
        str | None, typer.Option("--reader", metavar="NAME", help="This reader's acts only.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="From then on (ISO 8601).")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Up to then, that included.")
    ] = None,
    last: Annotated[
        int | None, typer.Option("--last", metavar="N", min=1, help="The last so many only.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the journal: who did what, when and where."""
    from napari_hspnet.cases import Case
    from napari_hspnet.cases.words import describe, local_time

    first = "" if since is None else parse_time(since, end=False)
    end = None if until is None else parse_time(until, end=True)
    with Case.open(folder) as case:
        entries = list(case.journal.entries())
        undone = _undone(entries)
        mpp = case.grid.mpp
    chosen = [
        entry
        for entry in entries
        if entry.time >= first
        and (end is None or entry.time <= end)
        and (reader is None or entry.reader.casefold() == " ".join(reader.split()).casefold())
    ]
    chosen = chosen[-last:] if last else chosen
    if as_json:
        print_json([entry_facts(e, mpp, e.seq in undone) for e in chosen])
        return
    width = max((len(e.reader) for e in chosen), default=0)
    for e in chosen:
        mark = "  [undone]" if e.seq in undone else ""
        typer.echo(
            f"{e.seq:>5}  {local_time(e.time)}  {e.reader or '-':<{width}}  "
            f"{describe(e, mpp)}{mark}"
        )


def replay_case(
    folder: CaseFolder,
    out: Annotated[Path, typer.Option("--out", help="The mask to write, such as mask.ome.tif.")],
    at: AsAfter = None,
    until: Until = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that exists.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the overlay as it was at a time, as OME-TIFF."""
    from napari_hspnet.cases import Case, CaseSnapshot
    from napari_hspnet.cases.words import local_time
    from napari_hspnet.exchange import ExportInfo, refuse_existing, write_ome_tiff

    if at is None and until is None:
        raise InputError("It is not said which time is meant", advice="Give --until or --at")
    refuse_existing(out, overwrite)
    with Case.open(folder) as case, working(as_json) as work:
        seq = sequence_at(case, at, until)
        assert seq is not None
        snapshot = CaseSnapshot.of(case, seq)
        about = ExportInfo.of_snapshot(snapshot)
        write_ome_tiff(
            out,
            snapshot.composite,
            about,
            overwrite=overwrite,
            progress=work.say(f"Writing {out.name}"),
            cancel=work.cancel,
        )
        time = snapshot.time
    if as_json:
        print_json(
            {
                "notice": RESEARCH_USE_ONLY,
                "out": str(out),
                "seq": seq,
                "time": time,
                "runs": list(about.run_ids),
                "readers": list(about.readers),
            }
        )
        return
    typer.echo(f"{out}: as after entry {seq} of {local_time(time)}")
    typer.echo(f"  readers  {', '.join(about.readers) or 'none'}")
    typer.echo(f"  runs     {', '.join(about.run_ids) or 'none'}")


def _undone(entries: Sequence[Entry]) -> set[int]:
    """Numbers of the edits that do not stand now."""
    from napari_hspnet.cases.history import History
    from napari_hspnet.cases.journal import EDIT

    standing = History.of(entries).standing()
    return {entry.seq for entry in entries if entry.kind == EDIT} - standing


def _show_entry(case: Case, seq: int, as_json: bool) -> None:
    from napari_hspnet.cases.words import local_time

    entry = case.journal.entry(seq)
    undone = seq in _undone(list(case.journal.entries()))
    said = entry_facts(entry, case.grid.mpp, undone) | {
        "body": entry.body,
        "tiles_sha256": entry.tiles,
        "previous_sha256": entry.previous,
        "sha256": entry.hash,
    }
    if as_json:
        print_json(said)
        return
    rows = {
        "Entry": f"{entry.seq} ({entry.kind})" + (", undone" if undone else ""),
        "Time": f"{local_time(entry.time)} ({entry.time})",
        "Reader": entry.reader or "-",
        "What": said["what"],
        "SHA-256": entry.hash,
        "Before it": entry.previous,
        "Its pixels": entry.tiles,
    }
    for title, value in rows.items():
        typer.echo(f"{title + ':':<14}{value}")
    typer.echo(json.dumps(entry.body, indent=2, ensure_ascii=False))


def _facts(case: Case, seq: int | None) -> dict[str, Any]:
    entries = list(case.journal.entries(until=seq))
    composite = case.composite() if seq is None else case.at(seq)
    slide, grid = case.slide_facts, case.grid
    areas = composite.areas()
    square = (grid.mpp / 1000) ** 2
    # As by JSON, so that what is printed and what a script gets cannot differ.
    changed = [
        {"from": before, "to": after, "mm2": pixels * square}
        for (before, after), pixels in sorted(composite.changes().items())
    ]
    runs = _runs(case, composite, entries, seq)
    reading = case.journal.reading
    return {
        "notice": RESEARCH_USE_ONLY,
        "demo": DEMO_BANNER if any(run["synthetic"] for run in runs) else None,
        "case": str(case.folder),
        "slide": {
            "name": slide.name,
            "fingerprint": slide.fingerprint,
            "width": slide.shape[1],
            "height": slide.shape[0],
            "mpp_x": slide.mpp[1],
            "mpp_y": slide.mpp[0],
        },
        "grid": {"width": grid.shape[1], "height": grid.shape[0], "mpp": grid.mpp},
        "seq": case.journal.last if seq is None else seq,
        "second_reading": None if reading is None else reading.body(),
        "runs": runs,
        "areas_mm2": {str(value): mm2 for value, mm2 in areas.mm2.items()},
        "areas_exact": areas.exact,
        "corrected": [change for change in changed if change["from"] != change["to"]],
        "accepted": [
            {"grade": change["to"], "mm2": change["mm2"]}
            for change in changed
            if change["from"] == change["to"]
        ],
        "regions": _region_states(entries),
        "readers": _readers(entries),
        "last_entry": entry_facts(entries[-1], grid.mpp) if entries else None,
    }


def _runs(
    case: Case, composite: Composite, entries: Sequence[Entry], seq: int | None
) -> list[dict[str, Any]]:
    """The runs that were there, the topmost active one first."""
    from napari_hspnet.cases.journal import RUNS

    active = [run.id for run in composite.runs]
    known = {run.id: run for run in case.runs}
    if seq is not None:
        # A run is active from its finish on, so the journal names every one.
        told = (entry.body["active"] for entry in entries if entry.kind == RUNS)
        then = {run["id"] for runs in told for run in runs}
        known = {run_id: run for run_id, run in known.items() if run_id in then}
    ordered = [*active, *(run_id for run_id in known if run_id not in active)]
    return [_run(known[run_id], active) for run_id in ordered if run_id in known]


def _run(run: RunInfo, active: Sequence[str]) -> dict[str, Any]:
    return {
        "id": run.id,
        "model": run.record.model_name,
        "sha256": run.record.model_sha256,
        "synthetic": run.record.synthetic,
        "state": run.state,
        "active": run.id in active,
        "topmost": active[:1] == [run.id],
        "started": run.record.started,
        "finished": run.finished,
        "device": run.record.device,
        "mode": run.record.mode,
        "backend": run.record.backend,
        "notes": list(run.record.notes),
        "areas_mm2": {str(value): mm2 for value, mm2 in run.areas.items()},
    }


def _region_states(entries: Sequence[Entry]) -> dict[str, int]:
    """How many review regions were in each state, by the journal alone."""
    from napari_hspnet.cases import STATES, TO_DO
    from napari_hspnet.cases.journal import REGIONS

    states: dict[int, str] = {}
    for body in (entry.body for entry in entries if entry.kind == REGIONS):
        if body["do"] == "add":
            states |= {region["id"]: TO_DO for region in body["regions"]}
        elif body["do"] == "state":
            states |= dict.fromkeys(body["regions"], body["state"])
        elif body["do"] == "remove":
            states = {i: state for i, state in states.items() if i not in body["regions"]}
    counts = Counter(states.values())
    return {state: counts[state] for state in STATES}


def _readers(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if not entry.reader:
            continue
        reader = found.setdefault(entry.reader, {"name": entry.reader, "acts": 0, "last": ""})
        # What continues an act is the same act to the one who did it.
        reader["acts"] += not entry.body.get("continues")
        reader["last"] = entry.time
    return list(found.values())


def _lines(said: dict[str, Any]) -> list[str]:
    from napari_hspnet.cases.words import area_text, grade_name, local_time

    slide, grid = said["slide"], said["grid"]
    lines = [
        f"Slide:        {slide['name']}",
        f"Size:         {slide['width']:,} x {slide['height']:,} px",
        f"Resolution:   {slide['mpp_x']:.4g} x {slide['mpp_y']:.4g} µm/px",
        f"Fingerprint:  {slide['fingerprint']}",
        f"Label grid:   {grid['width']:,} x {grid['height']:,} px of {grid['mpp']:g} µm",
    ]
    if said["second_reading"] is not None:
        model = "" if said["second_reading"]["model"] else ", begun without the model"
        lines.append(f"Reading:      second, by {said['second_reading']['reader']} alone{model}")
    for run in said["runs"]:
        shown = "topmost" if run["topmost"] else "active" if run["active"] else "not shown"
        shown = shown if run["state"] == "finished" else run["state"]
        title = "Runs:" if run is said["runs"][0] else ""
        lines.append(f"{title:<14}{run['id']}  {run['model']} ({run['sha256'][:12]}…)  {shown}")
        lines.append(f"{'':<14}on {run['device']}, back end {run['backend']}")
    lines += [] if said["runs"] else ["Runs:         none"]

    def areas(title: str, rows: Sequence[tuple[str, float]]) -> None:
        lines.append(f"{title:<14}{'' if rows else 'nothing'}".rstrip())
        lines.extend(f"  {name:<28}{area_text(mm2 * 1e6, 1.0):>12}" for name, mm2 in rows)

    areas(
        "Overlay:" if said["areas_exact"] else "Overlay (to about 1 %):",
        [(grade_name(int(value)), mm2) for value, mm2 in said["areas_mm2"].items()],
    )
    areas(
        "Corrected:",
        [
            (f"{grade_name(change['from'])} → {grade_name(change['to'])}", change["mm2"])
            for change in said["corrected"]
        ],
    )
    areas("Accepted:", [(grade_name(each["grade"]), each["mm2"]) for each in said["accepted"]])
    states = [f"{count} {state}" for state, count in said["regions"].items() if count]
    lines.append(f"Regions:      {', '.join(states) or 'none'}")
    for reader in said["readers"]:
        title = "Readers:" if reader is said["readers"][0] else ""
        acts = f"{reader['acts']} act{'' if reader['acts'] == 1 else 's'}"
        lines.append(f"{title:<14}{reader['name']}, {acts}, last {local_time(reader['last'])}")
    lines += [] if said["readers"] else ["Readers:      none"]
    last = said["last_entry"]
    if last is not None:
        lines.append(f"Last entry:   {last['seq']}, {local_time(last['time'])}, {last['what']}")
    lines += [said["demo"]] if said["demo"] else []
    return [*lines, f"{said['notice']}. Not a medical device."]
