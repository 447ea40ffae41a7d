"""The report as a browser gets it, read with html.parser, its images with Pillow."""

import base64
import io
import re
import threading
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image
from slide_case import COMMENT, HOSTILE, made_case

from napari_hspnet.classes import DEMO_BANNER, RESEARCH_USE_ONLY
from napari_hspnet.errors import CancelledError, OutputError
from napari_hspnet.exchange.report import write_report
from napari_hspnet.jobs.report import gather

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Text, tags and addresses; complains of tags that are not closed in order."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.addresses, self.text, self.styles = [], [], [], "", ""
        self.source = path.read_text("utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "action", "data"):
                self.addresses.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        # Cells and paragraphs stand apart.
        self.text += " "

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.styles += data
        else:
            self.text += data

    @property
    def words(self):
        return " ".join(self.text.split())


@pytest.fixture
def made(tmp_path):
    with made_case(tmp_path) as made:
        yield made


def write(tmp_path, content):
    return Page(write_report(tmp_path / "r.html", content))


def test_it_needs_nothing_else_and_every_image_decodes(tmp_path, made):
    _, snapshot, slide = made
    page = write(tmp_path, gather(snapshot, slide, comments=True, name_slide=True))
    assert "script" not in page.tags
    assert not {"link", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert "http" not in page.source.lower().replace("http-equiv", "")
    assert "@import" not in page.styles
    assert "url(" not in page.styles
    # The slide, three regions twice, swatches: four grades and three others, twice.
    assert len(page.addresses) >= 1 + 6 + 7
    for address in page.addresses:
        kind, data = re.fullmatch(r"data:image/(png|jpeg);base64,(\S+)", address).groups()
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            image.load()
            assert image.format.lower() == kind


def test_all_that_users_wrote_is_text(tmp_path, made):
    _, snapshot, slide = made
    page = write(tmp_path, gather(snapshot, slide, comments=True))
    assert "<script" not in page.source
    assert "<b>" not in page.source
    assert "<model>" not in page.source
    for said in (HOSTILE, COMMENT, "demo <model>"):
        assert said in page.text
    assert page.tags.count("h3") == 1 + 3 + 1


def test_it_says_all_there_is_to_say(tmp_path, made):
    _, snapshot, slide = made
    content = gather(snapshot, slide)
    page = write(tmp_path, content)
    said = page.words
    for text in (
        RESEARCH_USE_ONLY,
        DEMO_BANNER,
        "Worst grade: CIN3 (HSIL), 0.004 mm²",
        "A grade counts from 0.001 mm² on",
        snapshot.slide.fingerprint,
        "900 x 1,300 px, 0.45 x 0.65 mm",
        "CIN1 → CIN3 0.002 mm²",
        "Accepted as predicted: under 0.001 mm²",
        "Region 1: CIN3",
        "Region 3: normal, tagged artefact",
        "signed off by " + HOSTILE,
        "not analysed: no tissue found",
        "12" * 32,
        "stride (px): 100",
        f"journal entry {snapshot.seq}",
        content.about.tool,
        snapshot.runs[0].id,
    ):
        assert text in said, text
    for reader in content.readers:
        assert reader.name in said
    times = re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S*", said)
    assert len(times) > 8
    assert all(re.search(r"[+-]\d\d:\d\d,?$", time.rstrip(").")) for time in times)
    assert "Meyer" not in page.source


def test_areas_in_the_table_are_those_of_the_case(tmp_path, made):
    _, snapshot, _ = made
    content = gather(snapshot)
    page = write(tmp_path, content)
    cin3 = next(row for row in content.areas if row.name == "CIN3")
    share = 100 * cin3.shown / content.analysed_mm2
    assert f"CIN3 {cin3.shown:.3f} mm² {share:.1f} % {cin3.predicted:.3f} mm² +0.002 mm²" in (
        page.words
    )


def test_without_the_slide_it_says_that_there_are_no_pictures(tmp_path, made):
    _, snapshot, _ = made
    page = write(tmp_path, gather(snapshot))
    assert "no pictures of the tissue" in page.words
    assert "image/jpeg" not in page.source


def test_a_real_model_has_no_demo_banner(tmp_path, made):
    _, snapshot, _ = made
    content = gather(snapshot)
    runs = tuple(replace(run, synthetic=False) for run in content.runs)
    real = replace(content, runs=runs, about=replace(content.about, synthetic=False))
    assert DEMO_BANNER not in write(tmp_path, real).source


def test_an_empty_case_says_so(tmp_path, made):
    _, snapshot, _ = made
    content = replace(
        gather(snapshot), runs=(), readers=(), regions=(), changes=(), confirmed_mm2=0.0,
        states=(("to do", 0),), tagged=0,
    )  # fmt: skip
    said = write(tmp_path, content).words
    for text in (
        "No run is shown",
        "No reader has done anything",
        "There are no review regions",
        "Nothing is shown otherwise",
    ):
        assert text in said


def test_an_existing_report_is_kept_and_cancelling_leaves_nothing(tmp_path, made):
    _, snapshot, _ = made
    content = gather(snapshot)
    path = tmp_path / "r.html"
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        write_report(path, content)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        write_report(path, content, overwrite=True, cancel=cancel)
    assert path.read_text() == "precious"
    before = set(tmp_path.iterdir())
    told = []
    write_report(path, content, overwrite=True, progress=told.append)
    assert told[-1] == 1.0
    assert set(tmp_path.iterdir()) == before
    assert Page(path).tags[0] == "html"
