"""Intervals against scipy, the table, and the page: parsed, and opened in Chromium."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import stats

from recipes import evaluate
from recipes.evaluation.artifacts import Click, Line
from recipes.evaluation.judges import JUDGES
from recipes.evaluation.metrics import HAS_PESQ, Signal
from recipes.evaluation.report import write_page, write_sounds
from recipes.evaluation.spectrograms import draw
from recipes.evaluation.summary import COLUMNS, Mean, Outcome, mean, shown, summarize, table
from tests.support import corpus, signals
from tests.support.browser import chromium


def test_the_interval_is_students() -> None:
    values = list(np.random.default_rng(0).normal(3.0, 0.5, 9))
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    result = mean([*values[:4], float("nan"), *values[4:]])
    assert result.clips == 9
    assert result.value - result.half_width == pytest.approx(low)
    assert result.value + result.half_width == pytest.approx(high)
    # By hand: 2.776 is the 97.5 % point of t with 4 degrees of freedom, sqrt(2.5) the standard deviation.
    assert mean([1, 2, 3, 4, 5]).half_width == pytest.approx(2.776 * np.sqrt(2.5 / 5), abs=1e-3)


def test_one_clip_has_no_interval_and_none_no_mean() -> None:
    assert mean([2.0])[0::2] == (2.0, 1)
    assert np.isnan(mean([2.0]).half_width)
    assert np.isnan(mean([float("nan")]).value)


def test_values_as_they_are_shown() -> None:
    assert shown("pesq", 3.456, 0.123) == "3.46 ± 0.12"
    assert shown("voicing_error", 0.0704, 0.0051) == "7.0 ± 0.5"
    assert shown("pesq", 3.456) == "3.46"
    assert shown("pesq", float("nan"), 0.1) == "-"


def outcome(pesq: float, lines: list[Line], model: str = "model") -> Outcome:
    result = {"recording": {"silence_dbfs": -60.0}, model: {"pesq": pesq, "lines": float(len(lines))}}
    clicks = {"recording": [], model: [Click(0.254, 11.3)]}
    return Outcome("a.wav", 1.0, result, {"recording": [], model: lines}, clicks)


def test_the_table() -> None:
    summary = summarize([outcome(3.0, []), outcome(4.0, [Line(100.0, 12.0)])])
    assert summary["model"]["pesq"] == pytest.approx(Mean(3.5, stats.t.ppf(0.975, 1) * 0.5, 2))
    header, rule, *rows = ([cell.strip() for cell in row.split("|")[1:-1]] for row in table(summary).splitlines())
    assert header == ["system", "PESQ", "silence, dBFS", "tones"]  # what was measured, in the order of COLUMNS
    assert set(rule) == {"---"}
    assert [row[0] for row in rows] == ["recording", "model"]
    assert rows[0][header.index("silence, dBFS")] == "-60.0 ± 0.0"
    assert rows[0][header.index("PESQ")] == ""
    assert rows[1][header.index("PESQ")] == "3.50 ± 6.35"
    assert rows[1][header.index("tones")] == "0.50 ± 6.35"


def test_a_spectrogram_shows_where_the_energy_is(tmp_path: Path) -> None:
    from matplotlib.image import imread

    t = np.arange(22050) / 22050
    audio = np.where(t < 0.5, np.sin(2 * np.pi * 8000 * t), np.sin(2 * np.pi * 2000 * t)).astype(np.float32)
    draw({"": Signal(audio, 22050)}, tmp_path / "a.png", top=50.0)
    image = imread(tmp_path / "a.png")
    brightness = image[..., :3].sum(2) * (image[..., 3] == 1)
    height, width = brightness.shape
    rows = [int(np.argmax(brightness[:, int(place * width)])) / height for place in (0.3, 0.75)]
    # The axes take the upper 85 % or so, from 11 kHz down to 0.
    assert rows == pytest.approx([0.27, 0.7], abs=0.08)


class Page(HTMLParser):
    """What a page refers to and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[tuple[str, str]] = []
        self.cells: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.references += [
            (tag, value or "") for name, value in attributes if name in ("src", "href", "srcset", "data")
        ]
        if tag == "tr":
            self.cells.append([])
        elif tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.cells[-1][-1] += data


def test_names_and_tones_on_the_page(tmp_path: Path) -> None:
    model = "../<b>&runs/model.safetensors"
    signal = Signal(signals.voice(16000, 0.3).astype(np.float32), 16000)
    write_sounds(tmp_path, 0, {"recording": signal, model: signal})
    write_page(tmp_path, "some <i>where", [outcome(3.0, [Line(1722.66, 14.2)], model)])
    text = (tmp_path / "index.html").read_text()
    assert "<b>" not in text
    assert "<i>" not in text
    assert re.findall(r'class="flag">(.*?)<', text) == ["1723 Hz, +14 dB", "click at 0.25 s, +11 dB"]
    page = Page(text)
    assert page.cells[0][1:3] == ["recording", model]
    assert {name for _, name in page.references} == {path.name for path in tmp_path.iterdir()} - {"index.html"}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The built-in model and Griffin-Lim on two recordings, and the figures in JSON beside the report."""
    folder = tmp_path_factory.mktemp("report")
    data = corpus.make(folder / "data")
    arguments = [
        "--data",
        str(data),
        "--clips",
        "2",
        "--report",
        str(folder / "page"),
        "--json",
        str(folder / "out.json"),
    ]
    assert evaluate.main(arguments) == 0
    yield folder / "page"
    shutil.rmtree(folder)


def test_the_report_is_self_contained(report: Path) -> None:
    text = (report / "index.html").read_text()
    page = Page(text)
    assert not re.findall(r"https?:|//[\w.]+/|@import|url\(", text)
    names = [name for _, name in page.references]
    assert sorted(names) == sorted(path.name for path in report.iterdir() if path.name != "index.html")
    assert [tag for tag, _ in page.references] == ["img", "audio"] * 6  # 2 recordings x (itself, model, Griffin-Lim)
    for name in names:
        if name.endswith(".flac"):
            assert soundfile.info(report / name).duration == pytest.approx(0.8, abs=256 / 22050)
    assert sorted(report.parent.iterdir()) == [report.parent / name for name in ("data", "out.json", "page")]


_ON_DEMAND = ("nisqa", *JUDGES, *(() if HAS_PESQ else ("pesq",)))
MEASURED = [name for name in COLUMNS if name not in _ON_DEMAND]


def rows_of(report: Path) -> list[list[str]]:
    """What the table of the page is to hold."""
    figures = json.loads((report.parent / "out.json").read_text())
    rows = []
    for name in MEASURED:
        cells = []
        for system in figures["mean"]:
            values = [figures[kind][system].get(name) for kind in ("mean", "interval")]
            known = name in figures["mean"][system]
            cells.append(shown(name, *(np.nan if value is None else value for value in values)) if known else "")
        rows.append([f"{COLUMNS[name].title} {COLUMNS[name].better}", *cells, COLUMNS[name].meaning])
    return rows


def test_the_table_of_the_report(report: Path) -> None:
    cells = Page((report / "index.html").read_text()).cells[-1 - len(MEASURED) :]
    systems = ["recording", "hnmask-22k", "griffin-lim", "hnmask-22k: F0 from the mel"]
    assert cells[0] == ["metric", *systems, ""]
    assert cells[1:] == rows_of(report)


def browse(page: Path, *arguments: str) -> str:
    """The standard output of a headless Chromium that opens ``page``."""
    program = chromium()
    assert program
    profile = f"--user-data-dir={page.parent.parent / 'profile'}"
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", profile]
    command = [program, *quiet, *arguments, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


# Tells what the browser made of the page; media load after the page itself.
PROBE = """<pre id="probe"></pre><script>
setInterval(() => {
  const all = (query, what) => [...document.querySelectorAll(query)].map(what);
  document.getElementById("probe").textContent = JSON.stringify({
    images: all("img", image => image.naturalWidth * image.naturalHeight),
    seconds: all("audio", player => player.duration),
    errors: all("audio", player => player.error && player.error.message),
    rows: all("#means tbody tr", row => [...row.cells].map(cell => cell.textContent)),
    visible: all("#means, figure, audio", element => element.getBoundingClientRect().width > 100),
  });
}, 100);
</script>"""


@pytest.mark.skipif(chromium() is None, reason="no Chromium here; on Debian: apt-get install chromium")
def test_the_report_in_chromium(report: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(report, tmp_path / "copy")
    page = copy / "index.html"
    page.write_text(page.read_text().replace("</body>", f"{PROBE}</body>"))
    dumped = re.search(
        r'<pre id="probe">(.*?)</pre>', browse(page, "--dump-dom", "--virtual-time-budget=20000"), re.DOTALL
    )
    assert dumped
    seen = json.loads(dumped[1])
    assert seen["rows"] == rows_of(report)
    assert len(seen["images"]) == len(seen["seconds"]) == 6
    assert min(seen["images"]) > 10000
    assert seen["seconds"] == pytest.approx([0.8] * 6, abs=0.02)
    assert seen["errors"] == [None] * 6
    assert all(seen["visible"])


@pytest.mark.skipif(chromium() is None, reason="no Chromium here; on Debian: apt-get install chromium")
@pytest.mark.parametrize("scheme", [0, 1])
def test_the_report_is_painted_dark_or_light(scheme: int, report: Path, tmp_path: Path) -> None:
    from matplotlib.image import imread

    shot = tmp_path / "shot.png"
    browse(
        report / "index.html",
        f"--screenshot={shot}",
        "--window-size=1200,1600",
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    image = imread(shot)[..., :3]
    assert image.shape == (1600, 1200, 3)
    ground = image[5, 5].mean()
    assert ground < 0.2 if scheme == 0 else ground > 0.9
    different = np.abs(image - image[5, 5]).max(2) > 0.2
    assert 0.02 < different[:900].mean() < 0.6  # text and table
    assert len(np.unique((image[600::4, ::4] * 255).astype(int).reshape(-1, 3), axis=0)) > 200  # spectrograms in colour
