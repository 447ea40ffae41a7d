"""Two readers on the command line: the second begins blind, then both are compared."""

import json

import pytest

from napari_hspnet.cli import main

from cli.case_made import ANN, BEN, make_case, refused

ROW = "Corrected or accepted by both"


@pytest.fixture
def call(capsys):
    """Run a `case` command: gives the exit code, stdout and stderr."""

    def run(*arguments):
        code = main(["case", *map(str, arguments)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def done(call):
    """Run one that succeeds: gives stdout."""

    def run(*arguments):
        code, out, err = call(*arguments)
        assert code == 0, err
        return out

    return run


@pytest.fixture
def first(tmp_path, done):
    """Dr. Ann called the CIN1 part CIN3, and accepted the rest."""
    folder = make_case(tmp_path)
    done("regrade", folder, "--at", "500,320", "--to", "CIN3", "--reader", ANN)
    done("accept", folder, "--all", "--reader", ANN)
    done("region-add", folder, "--region", "300,200,400,200", "--reader", ANN)
    done("region-set", folder, 1, "--state", "reviewed", "--comment", "sure", "--reader", ANN)
    return folder


@pytest.fixture
def second(first, done):
    """Dr. Ben saw none of that, and left the same part CIN1."""
    folder = first.with_name("biopsy~Dr._Ben.hspnet")
    said = done("second-reading", first, "--reader", BEN, "--regions")
    assert said.splitlines() == [str(folder), "  for Dr. Ben alone: 1 run, 1 region"]
    assert ANN not in done("log", folder)
    done("regrade", folder, "--at", "500,320", "--to", "CIN1", "--reader", BEN)
    done("accept", folder, "--all", "--reader", BEN)
    done("region-set", folder, 1, "--state", "reviewed", "--reader", BEN)
    return folder


def test_figures_of_two_readings(first, second, done):
    said = json.loads(done("compare", first, second, "--json"))
    assert (said["first"]["readers"], said["second"]["readers"]) == ([ANN], [BEN])
    assert said["second_made_from_first"]
    assert "research use only" in said["notice"].lower()
    basis = said["bases"]["said"]
    # The part has 400 x 200 µm, without a hole of 10 x 10; the rest is as it was.
    table = basis["mm2_by_grade"]
    graded = basis["graded_mm2"]
    differing = sum(table[i][j] for i in range(1, 5) for j in range(1, 5) if i != j)
    assert differing == pytest.approx(0.0799)
    assert graded == pytest.approx(0.5)
    assert basis["same"] == pytest.approx(1 - 0.0799 / 0.5)
    assert basis["same_side_of_cin2"] == pytest.approx(1 - 0.0799 / 0.5)
    assert 0 < basis["kappa_at_cin2"] < basis["same"]
    assert said["bases"]["reviewed"]["graded_mm2"] == pytest.approx(0.08)
    (region,) = said["regions"]["each"]
    assert (region["worst_first"], region["worst_second"]) == (4, 2)
    assert region["done_by_both"]
    assert said["regions"]["graded_regions"] == 1
    assert "places" not in said


def test_it_is_told_in_words_without_places_unless_asked_for(first, second, done):
    out = done("compare", first, second)
    assert "Dr. Ann (up to entry" in out
    assert "Dr. Ben (up to entry" in out
    assert "a second reading, begun from the first" in out
    assert ROW in out
    assert "kappa at CIN2" in out
    assert "What neither of them touched is the model's word" in out
    assert "first CIN3" not in out
    listed = done("compare", first, second, "--places")
    assert "first CIN3, second CIN1" in listed
    (place,) = json.loads(done("compare", first, second, "--places", "--json"))["places"]
    assert (place["first"], place["second"]) == (4, 2)
    assert place["mm2"] == pytest.approx(0.0799)
    assert done("compare", first, second, "--places", "--least-um2", 1e6).splitlines()[-1] == (
        "There is no place of that size where they differ"
    )


def test_places_are_taken_into_the_list_of_the_first(first, second, done):
    out = done("compare", first, second, "--add", "--reader", ANN)
    assert out.splitlines()[-1] == "Added to the list: 2"
    again = json.loads(done("compare", first, second, "--add", "--reader", ANN, "--json"))
    assert again["added"] == []
    region = json.loads(done("regions", first, "--json"))[1]
    assert (region["kind"], region["state"]) == ("component", "to do")
    assert region["comments"][0]["text"] == "Dr. Ann: CIN3. Dr. Ben: CIN1."
    assert region["mm2"] == pytest.approx(0.0799)


def test_without_the_model(first, done, tmp_path):
    out = tmp_path / "elsewhere" / "b.hspnet"
    said = json.loads(
        done(
            *("second-reading", first, "--reader", BEN, "--without-model"),
            *("--out", out, "--json"),
        )
    )
    assert (said["case"], said["runs"], said["regions"]) == (str(out), [], [])
    assert "second, by Dr. Ben alone, begun without the model" in done("show", out)
    text = done("compare", first, out)
    assert "a second reading, without the model, begun from the first" in text
    assert "the model's word" not in text
    # Nothing is analysed there, so there is nothing to compare.
    assert text.splitlines()[-1].count("-") >= 5


def test_only_its_reader_acts_in_it(second, call):
    answer = call("regrade", second, "--at", "500,320", "--to", "CIN2", "--reader", ANN)
    refused(answer, "second reading of Dr. Ben", "only Dr. Ben")


def test_mistakes_are_told_in_one_line(first, second, call, tmp_path):
    refused(call("second-reading", first), "nobody is named")
    refused(call("second-reading", first, "--reader", BEN), "a reading already")
    refused(call("second-reading", second, "--reader", "Dr. Eve"), "second reading itself")
    refused(call("second-reading", tmp_path / "none", "--reader", BEN), "no case")
    refused(call("compare", first, tmp_path / "none"), "no case")
    refused(call("compare", first, second, "--least-um2", -1), "no area")
    refused(call("compare", first, second, "--add"), "nobody is named")
    (tmp_path / "other").mkdir()
    other = make_case(tmp_path / "other", grey=240)
    refused(call("compare", first, other), "two slides")


def test_a_log_says_what_the_case_is(first, second, done):
    line = done("log", second).splitlines()[0]
    entries = len(done("log", first).splitlines())
    assert "second reading by Dr. Ben begun for biopsy.tiff (" in line
    assert line.endswith(f"with what the model said, from a case of {entries} entries")
