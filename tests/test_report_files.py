"""Figures and tables of a page as files, and what the page itself does: dark, sortable, printed."""

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from commands import run
from PIL import Image
from tiny_study import searched

from dsaccel import Study
from dsaccel.study.rows import read_rows

pytestmark = pytest.mark.long


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return searched(budget={"n_trials": 4, "cohort_size": 4}, pruning={"kind": "none"})


def test_each_figure_and_table_is_a_file_of_its_own(study):
    shown = run("report", "tiny", "--format", "csv").stdout.split()
    assert "studies/tiny/parts-csv/history.csv" in shown
    with Path("studies/tiny/parts-csv/trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["hierarchy"] for row in rows] == [
        row.hierarchy for row in read_rows(study.ledger.record())
    ]
    text = Path("studies/tiny/parts-csv/history.csv").read_text()
    assert text.startswith("trace,x,y\nbest so far,0,")
    assert run("report", "tiny", "--format", "latex", "-o", "tex").stdout == "tex/trials.tex\n"
    assert r"\toprule" in Path("tex/trials.tex").read_text()
    refused = run("report", "tiny", "--format", "gif")
    assert (refused.exit_code, "png, svg, csv, latex" in refused.stderr) == (2, True)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_figures_are_drawn_as_pictures_of_the_format_that_is_asked_for(study, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", str(shutil.which("chromium")))
    assert run("report", "tiny", "--format", "svg", "-o", "svg").exit_code == 0
    drawn = {path.stem: ElementTree.parse(path).getroot() for path in Path("svg").iterdir()}
    assert drawn.keys() >= {"history", "hierarchies", "heads"}
    assert all(root.tag.endswith("}svg") for root in drawn.values())
    assert "validation accuracy" in ElementTree.tostring(drawn["history"], encoding="unicode")
    assert run("report", "tiny", "--format", "png", "-o", "png").exit_code == 0
    with Image.open("png/history.png") as image:
        assert image.width == 1800


def test_networks_in_both_modes_are_laid_over_one_another(study):
    figure: Any = Study.load("tiny").figure("overlay")
    traces = {trace.name: trace for trace in figure.data}
    record = study.ledger.record()
    names = {trial.name for trial in record.finished if trial.is_complete}
    assert names <= traces.keys()
    best = record.baseline
    assert best is not None
    assert traces[f"{best.hierarchy}, global"].line.dash == "dash"
    assert traces[f"{best.hierarchy}, global"].y[-1] == best.accuracy
    for row in read_rows(record):
        if row.is_complete:
            assert traces[row.hierarchy].y[-1] == row.accuracy
            is_shown = row.kind == "reference" or row.hierarchy == str(best.hierarchy)
            assert traces[row.hierarchy].visible == (True if is_shown else "legendonly")


def test_a_picture_without_what_draws_it_is_one_line_that_says_what_to_install(study, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no kaleido\nhere")

    monkeypatch.setattr("plotly.graph_objects.Figure.to_image", fail)
    refused = run("report", "tiny", "--format", "svg")
    assert refused.exit_code == 2
    assert "pip install 'dsaccel[images]' (no kaleido)" in refused.stderr
    assert not Path("studies/tiny/parts-svg").exists()


def told_by(page: str, folder: Path) -> str:
    """What a page has written into its element `told`, in a browser."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    options += ["--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        ["chromium", *options, "--virtual-time-budget=5000", page],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert "CONSOLE" not in done.stderr
    told = re.search('<p id="told">(.*?)</p>', done.stdout)
    assert told is not None
    return told[1]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_on_a_phone_nothing_is_cut_off_or_lies_over_another(study, tmp_path):
    run("report", "tiny", "-o", "page.html")
    script = """
      const boxes = (figure, what) =>
        [...figure.querySelectorAll(what)].map((each) => each.getBoundingClientRect());
      const looked = () => [...document.querySelectorAll(".js-plotly-plot")].map((figure) => {
        const right = Math.max(...boxes(figure, "text").map((box) => box.right));
        const labels = boxes(figure, ".ytick text").sort((a, b) => a.top - b.top);
        const apart = labels.every((box, n) => !n || labels[n - 1].bottom <= box.top + 2);
        const drawn = figure.querySelector(".main-svg").clientHeight;
        return [right, apart, drawn <= figure.parentElement.clientHeight];
      });
      addEventListener("load", () => setTimeout(() => parent.postMessage(JSON.stringify(
        [document.documentElement.scrollWidth, looked()]), "*"), 1000));"""
    page = Path("page.html").read_text().replace("</body>", f"<script>{script}</script></body>")
    Path("page.html").write_text(page)
    Path("phone.html").write_text(
        "<script>addEventListener('message', (e) => document.body.insertAdjacentHTML('beforeend', "
        "`<p id=told>${e.data}</p>`));</script><iframe src=page.html width=390 height=900></iframe>"
    )
    width, figures = json.loads(told_by("phone.html", tmp_path))
    assert width <= 390
    assert len(figures) > 4
    for right, is_apart, is_inside in figures:
        assert right <= 390
        assert is_apart
        assert is_inside


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_a_heading_sorts_its_column_by_its_figures_and_again_the_other_way(study, tmp_path):
    run("report", "tiny", "-o", "page.html")
    script = (
        "const th = document.querySelectorAll('.sortable th')[3];"
        "const told = () => [...document.querySelectorAll('.sortable td:nth-child(4)')]"
        ".map((cell) => cell.textContent).join(';');"
        "th.click(); const down = told(); th.click();"
        "document.body.insertAdjacentHTML('beforeend', `<p id=told>${down}|${told()}</p>`);"
    )
    page = Path("page.html").read_text().replace("</body>", f"<script>{script}</script></body>")
    Path("sorted.html").write_text(page)
    down, up = (column.split(";") for column in told_by("sorted.html", tmp_path).split("|"))
    numbers = [float(cell.split()[0]) for cell in down]
    assert numbers == sorted(numbers, reverse=True)
    assert up == down[::-1]
