"""`dsaccel reproduce`: the paper's tables and figures, trained again at a small scale."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import seats
from helpers import write_images
from typer.testing import CliRunner

from dsaccel import imports
from dsaccel.cli.app import app
from dsaccel.config.study import RuntimeConfig
from dsaccel.data.source import open_source
from dsaccel.errors import ConfigError
from dsaccel.families import MODES
from dsaccel.paper.compare import Comparison
from dsaccel.paper.kept import Trained
from dsaccel.paper.rows import NUM_CLASSES, all_rows, rows_of
from dsaccel.paper.scale import SCALES, Protocol, Scale, open_sources
from dsaccel.paper.train import Reproduction
from dsaccel.report.reproduction import rows_report
from dsaccel.report.table import Table
from dsaccel.spec.unit_names import head_names
from dsaccel.statistics import paired, summarise
from dsaccel.study.folder import StudyDir
from dsaccel.training.train import Training
from dsaccel.training.workbench import Bench

pytestmark = pytest.mark.long

MINUTE = Scale(width=1 / 64, image_size=8, train_images=40, epochs=2, batch_size=20)
CPU = RuntimeConfig(device="cpu", threads=1)


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSACCEL_CACHE", str(tmp_path / "cache"))


def reproduction(
    experiment="table5",
    models=("ResNet18_r1", "ResNet18_r4"),
    *,
    scale: Scale = MINUTE,
    data: str = "digits",
    protocol: Protocol = "ours",
    num_seeds: int = 1,
) -> Reproduction:
    rows = rows_of(experiment, models)
    sources = open_sources(rows, scale, data=data, protocol=protocol)
    directory = StudyDir("paper-minute")
    return Reproduction(rows, scale, sources, directory=directory, num_seeds=num_seeds, runtime=CPU)


def reproduced(*args, **options) -> Reproduction:
    made = reproduction(*args, **options)
    for _ in made.run():
        pass
    return made


def folder_of(num_classes: int) -> str:
    """Images of so many classes, whose names are letters."""
    classes = "".join(chr(0x4E00 + number) for number in range(num_classes))
    return str(write_images(Path("images"), classes=classes, num=4))


def test_the_rows_are_the_papers():
    by_name = {(row.table, row.model): row for row in all_rows()}
    best = by_name["V", "ResNet18_r4"]
    assert str(best.hierarchy) == "1-1-2-2"
    assert best.published == pytest.approx({"local": 0.8977, "global": 0.9301})
    assert (best.family, best.learning_rate, best.dropout) == ("resnet18", 3e-4, 0.3)
    assert by_name["I", "VGG16_e1"].family == "vgg"
    assert by_name["I", "VGG8b"].family == "vgg8b"
    assert by_name["III", "ResNet50"].num_shallow == 7


def test_figures_show_the_rows_that_the_paper_draws():
    standard = [row.model for row in rows_of("figure1")]
    assert (
        standard == ["VGG8", "VGG11", "VGG16", "VGG19", "VGG8b"] * 2 + ["ResNet18", "ResNet50"] * 2
    )
    models = [row.model for row in rows_of("figure5")]
    assert models == ["ResNet18", "ResNet18_r4", "ResNet50", "ResNet50_r2"]


def test_rows_of_a_table_are_trained_together_as_each_would_be_alone():
    made = reproduced()
    for row in made.rows:
        for mode in ("local", "global"):
            config = MINUTE.run_config(row, 1, "digits", CPU)
            alone = Training(config.model_copy(update={"mode": mode}))
            list(alone.rungs())
            found = made.trained(row, mode, 1)
            assert found is not None
            assert found.accuracies == alone.result().head_accuracies
            assert found.heads == list(head_names(alone.plan))


def test_what_was_cut_off_goes_on_and_ends_the_same():
    whole = reproduced(num_seeds=2)
    expected = {path.name: path.read_text() for path in whole.directory.path.glob("networks/*")}
    assert len(expected) == 8
    for path in whole.directory.path.glob("networks/*"):
        path.unlink()
    for stop in (1, 4, 100):
        run = reproduction(num_seeds=2).run()
        for _, _ in zip(run, range(stop), strict=False):
            pass
        run.close()
    for name, text in expected.items():
        again = json.loads((whole.directory.path / "networks" / name).read_text())
        assert again["accuracies"] == json.loads(text)["accuracies"]
    assert not reproduction(num_seeds=2).jobs()


@pytest.mark.parametrize("seating", ["seats:Seats", "seats:SeatsAway"])
def test_rows_that_workers_train_are_those_of_one_process(seating, monkeypatch):
    """Layers that are measured and hybrids, too; a worker is lost with the second job."""
    monkeypatch.setattr(imports, "_trusted", {seating: Path()})

    def trained(name: str, **runtime) -> dict[str, Any]:
        rows = rows_of("table5", ("ResNet18_r1", "ResNet18_r4"))
        made = Reproduction(
            *(rows, MINUTE, open_sources(rows, MINUTE, data="digits")),
            directory=StudyDir(name),
            num_seeds=1,
            runtime=CPU.model_copy(update=runtime),
            measured_epochs=(2,),
            hybrids=True,
        )
        assert [reached.number for reached in made.run()][-1] == 3
        files = sorted((StudyDir(name).path / "networks").iterdir())
        read = {path.name: json.loads(path.read_text()) for path in files}
        timed = [each for each in read.values() if "time_s" in each]
        assert all(each.pop("time_s") > 0 for each in timed)
        return read

    expected = trained("here")
    assert {name.partition(".")[2] for name in expected} == {"json", "hybrids", "measured"}
    assert len(expected) == 12
    seats.Seat.num_jobs = 0
    monkeypatch.setattr(seats, "LOSES", [lambda number, _: number == 2])
    assert trained("there", executor=seating) == expected
    assert seats.Seat.num_jobs == 4
    assert not list(Path("studies").rglob("*.pt"))


def test_tables_share_the_networks_that_they_share():
    reproduced("table3", ("ResNet18",))
    left = reproduction("table5", ("ResNet18", "ResNet18_r1")).jobs()
    assert [tuple(map(str, job.hierarchies)) for job in left] == [("1-1-1-1",)] * 2


def test_a_network_keeps_the_name_of_its_file_when_settings_are_added():
    """Results of earlier versions are found by it."""

    class Images:
        name, protocol = "images", "ours"

    (row,) = rows_of("table5", ("ResNet18_r4",))
    made = Reproduction.__new__(Reproduction)
    made.scale, made.directory, made._runtime = SCALES["small"], StudyDir("paper-small"), CPU
    made._sources, made._images = {"cifar10": Images()}, {"cifar10": "abc"}  # type: ignore[dict-item]
    made.measured_epochs, made.has_hybrids = [], False
    known = "studies/paper-small/networks/resnet18-1-1-2-2-local-seed1-08073b563cfb.json"
    assert made._file(row, "local", 1).as_posix() == known


def test_other_images_or_another_scale_are_trained_anew():
    reproduced(models=("ResNet18_r1",))
    assert not reproduction(models=("ResNet18_r1",)).jobs()
    larger = reproduction(models=("ResNet18_r1",), scale=replace(MINUTE, epochs=3))
    assert len(larger.jobs()) == 2
    assert len(reproduction(models=("ResNet18_r1",), data=folder_of(10)).jobs()) == 2


def test_the_papers_protocol_trains_on_all_images_and_reads_the_test_split():
    everything = replace(MINUTE, train_images=None)
    folder = folder_of(10)
    made = reproduced(models=("ResNet18_r1",), data=folder, protocol="paper", scale=everything)
    config = made._config(made.rows[0], 1)
    data = Bench.load(config, source=made._sources["cifar10"]).data
    assert (data.num_train, data.num_val, data.has_test) == (40, 40, False)
    test = open_source(config.data).read("test")
    assert test is not None
    assert data.val.pixels.tolist() == test.images.tolist()
    assert "test split" in rows_report("table5", "minute", made).about
    assert "held out" in rows_report("table5", "minute", reproduction()).about


def test_the_papers_protocol_needs_a_test_split():
    images = Path(folder_of(10))
    shutil.rmtree(images / "test")
    with pytest.raises(ConfigError, match="images must have test images for --protocol paper"):
        reproduction(data=str(images), protocol="paper")


def test_images_of_other_classes_are_refused():
    with pytest.raises(ConfigError, match="must have 100 classes for the rows on cifar100"):
        reproduction("table6", ("ResNet18",))


def test_ranks_are_compared_with_the_papers_and_with_the_shallow_blocks():
    rows = rows_of("table5")[:5]
    accuracies = {"2-2-2-2": 0.3, "1-1-1-1": 0.5, "2-2-1-1": 0.2, "2-1-1-1": 0.4, "1-1-2-2": 0.6}

    class Known:
        """Reaches what it is told, in the paper's order at seed 1 and against it at seed 2."""

        seeds = (1, 2)

        def __init__(self):
            self.rows = rows

        def trained(self, row, mode, seed):
            accuracy = accuracies[str(row.hierarchy)]
            return Trained(["output"], [[accuracy if seed == 1 else 1 - accuracy]], 100, 1.0)

    comparison = Comparison.of(Known())  # type: ignore[arg-type]
    (agreement,) = comparison.rank_agreements
    assert agreement.with_paper == pytest.approx((1, -1))
    # 10 pairs, of which 8 have unequal shallow blocks; all of these but one are in the order
    assert agreement.shallow_with_paper == pytest.approx(8 / (10 * 8) ** 0.5)
    result = comparison.results[1]
    assert summarise([0.5, 0.5]) == result.summary("local")
    assert paired({1: 0.5, 2: 0.5}, {1: 0.5, 2: 0.5}) == result.gap
    assert result.published_gap == pytest.approx(0.0349)


def test_a_table_is_written_as_latex():
    table = Table(("a_b", "c"), [("50 % ± 1", "x & y")])
    assert table.latex().splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"a\_b & c \\",
        r"\midrule",
        r"50 \% $\pm$ 1 & x \& y \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def reached(rows, scale, data):
    """The results of rows that are trained in both modes, each an accuracy."""
    sources = open_sources(rows, scale, data=data)
    directory = StudyDir("paper-minute")
    made = Reproduction(rows, scale, sources, directory=directory, num_seeds=1, runtime=CPU)
    for _ in made.run():
        pass
    results = Comparison.of(made).results
    for mode in MODES:
        assert all(0 <= result.accuracies(mode)[1] <= 1 for result in results)
    return results


def test_a_row_of_each_family_reaches_a_number_in_both_modes():
    rows = [*rows_of("table1", ("VGG8", "VGG8b")), *rows_of("table5", ("ResNet50_r2",))]
    scale = replace(MINUTE, image_size=16, epochs=1)
    for result in reached(rows, scale, "digits"):
        assert {point.head for point in result.by_seed["local"][1].curve} >= {"output"}


def test_the_command_needs_a_test_split_for_the_papers_protocol():
    images = Path(folder_of(10))
    shutil.rmtree(images / "test")
    refused = run("table5", "--data", str(images), "--protocol", "paper", "--scale", "tiny")
    message = "dsaccel: images must have test images for --protocol paper, but has none"
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.startswith(message)


def run(*args: str):
    return CliRunner().invoke(app, ["reproduce", *args])


def test_the_command_writes_a_page_and_files_and_says_where(monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", MINUTE)
    options = ("--scale", "tiny", "--data", "digits", "--threads", "1", "--seeds", "2")
    made = run("table5", *options, "--rows", "ResNet18_r1,ResNet18_r4")
    assert made.exit_code == 0, made.output
    assert "reproduce layer-wise 1/6  seed 1  epoch 1/2  1-1-1-1 1-1-2-2" in made.stderr
    for suffix in ("html", "json", "csv", "tex"):
        assert Path(f"studies/paper-tiny/table5.{suffix}").is_file()
        assert f"studies/paper-tiny/table5.{suffix}" in made.stdout
    assert "width 0.015625, 8x8 pixels, 40 images, 2 epochs" in made.stdout
    header, line, *_ = Path("studies/paper-tiny/table5.csv").read_text().splitlines()
    assert header.endswith("accuracy,learning_rate,train_accuracy,train_loss,val_loss")
    assert all(line.split(","))
    page = Path("studies/paper-tiny/table5.html").read_text()
    assert all(f'id="{name}"' in page for name in ("accuracies", "published", "errors"))
    assert "89.77" in page
    assert "not testable at this scale" in page
    again = run("table5", *options, "--rows", "ResNet18_r1,ResNet18_r4", "--json")
    summary = json.loads(again.stdout)
    assert [row["model"] for row in summary["rows"]] == ["ResNet18_r1", "ResNet18_r4"]
    assert summary["rows"][0]["accuracy"]["local"]["n"] == 2
    assert "epoch" not in again.stderr
    shown = run("table5", *options, "--no-train", "--json")
    assert len(json.loads(shown.stdout)["rows"]) == 10
    none = run("table5", *options, "--no-train", "--rows", "ResNet18_r2")
    assert (none.exit_code, none.stderr.count("\n")) == (3, 1)
    assert "none of these networks is trained in studies/paper-tiny" in none.stderr
    figure = run("figure4", *options, "--rows", "ResNet18_r4")
    assert figure.exit_code == 0
    assert "errors" in Path("studies/paper-tiny/figure4.html").read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("table7",), "experiment must be one of table1, "),
        (("table5", "--rows", "VGG8"), "rows must be of table5, which has ResNet18, "),
        (("table5", "--scale", "large"), "scale must be one of tiny, small, adapted, paper"),
        (("table5", "--protocol", "theirs"), "protocol must be ours or paper, but got"),
        (("table2", "--data", "digits"), "data must have 100 classes for the rows on cifar100"),
    ],
)
def test_bad_input_is_refused_with_one_line(args, message):
    refused = run(*args)
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"dsaccel: {message}")
    assert refused.stderr.count("\n") == 1
    assert not Path("studies").exists()


@pytest.mark.slow
@pytest.mark.parametrize("dataset", NUM_CLASSES)
def test_every_row_reaches_a_number_in_both_modes(dataset):
    rows = [row for row in all_rows() if row.dataset == dataset]
    scale = replace(MINUTE, image_size=16, epochs=1, train_images=None, batch_size=50)
    assert len(reached(rows, scale, folder_of(NUM_CLASSES[dataset]))) == len(rows)
