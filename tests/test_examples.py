"""The first run, as a stranger types it."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from networks import events
from scripts import run_here, said, values_of

from lightning_infoplane import History, Row
from lightning_infoplane.measurement.quantities import DPI_AMI_ERROR, DPI_AMI_XT, DPI_ERROR, DPI_XT
from lightning_infoplane.measurement.quantity import Quantity
from lightning_infoplane.measurement.rows import Pair
from lightning_infoplane.measurement.verdicts import judge_gaps

EXAMPLES = Path(__file__).parents[1] / "examples"
LAYERS = ("conv1", "conv2", "conv3")
LOGGED = ("AMI_XT", "AMI_TY", "I_XT", "I_TY", "H_T")
IN_THE_TABLE = (
    *("AMI_XT_stderr", "AMI_TY_stderr", "AMI_XT_p", "AMI_TY_p", "CKA_XT", "E_TT"),
    *("I_XT_chance", "I_TY_chance", "bandwidth"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two epochs: the run's directory and what was printed."""
    root = tmp_path_factory.mktemp("digits")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "digits_cnn.py"), "--epochs", "2", "--root", str(root)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return root, done.stdout


def table_of(root: Path) -> History:
    return History.load(root / "lightning_logs" / "version_0" / "infoplane.csv")


def test_event_files_hold_every_main_key_at_step_0_and_at_every_epoch(run: tuple[Path, str]) -> None:
    root, _ = run
    scalars = events(root / "lightning_logs" / "version_0")
    keys = {f"{quantity}/{layer}" for quantity in LOGGED for layer in LAYERS}
    gaps = {
        f"{gap}/{pair}" for gap in ("DPI_AMI_XT", "DPI_XT", "DPI_TY") for pair in ("conv1-to-conv2", "conv2-to-conv3")
    }
    for key in keys | gaps | {"H_X", "H_Y", "DPI_increases", "DPI_decreases"}:
        assert [step for step, _ in scalars[key]] == [0, 17, 35], key
    assert not [key for key in scalars if key.partition("/")[0] in IN_THE_TABLE]


def test_the_table_holds_what_is_not_logged_too(run: tuple[Path, str]) -> None:
    root, _ = run
    rows = table_of(root)
    for quantity in LOGGED + IN_THE_TABLE:
        for layer in LAYERS:
            steps = [row.step for row in rows if (row.place, row.quantity) == (layer, quantity)]
            assert steps == [0, 17, 35], (layer, quantity)


def test_no_layer_is_saturated_or_collapsed(run: tuple[Path, str]) -> None:
    root, _ = run
    shares = [row.value / math.log2(512) for row in table_of(root) if row.quantity == "H_T"]
    assert len(shares) == 9
    assert min(shares) > 0.05
    assert max(shares) < 0.95


def test_it_ends_with_a_table_and_the_line_to_type(run: tuple[Path, str]) -> None:
    """Its numbers are those of infoplane.csv, from before training to the end, with their errors."""
    root, printed = run
    assert f"tensorboard --logdir {root}" in printed
    value = {(row.epoch, row.place, row.quantity): row.value for row in table_of(root)}
    for layer in LAYERS:
        told = [
            f"{value[epoch, layer, key]:.3f} ± {value[epoch, layer, f'{key}_stderr']:.3f}"
            for key in ("AMI_XT", "AMI_TY")
            for epoch in (0, 2)
        ]
        (line,) = re.findall(rf"^{layer} .*$", printed, re.MULTILINE)
        assert re.findall(r"-?\d\.\d{3} ± \d\.\d{3}", line) == told
    assert (root / "lightning_logs" / "version_0" / "plane.png").exists()


def run_example(name: str, *arguments: str) -> str:
    """What an example prints in its small form."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_vgg_prints_its_chain_and_what_becomes_of_the_information(tmp_path: Path) -> None:
    printed = run_example("vgg_errors.py", "--epochs", "2", "--root", str(tmp_path))
    assert "chains found: features.0 → features.3, features.3 → features.7" in printed
    assert re.search(r"^AMI\(X;T\) from features\.0 to features\.3: falls by [+-]0\.\d{3} ± 0\.\d{3}$", printed, re.M)
    for what in ("activations", "error signals"):
        assert re.search(rf"^{what}: \d+ decreases and \d+ increases, the rest undecided$", printed, re.MULTILINE)


def test_checkpoints_give_the_numbers_of_the_loop_that_wrote_them(tmp_path: Path) -> None:
    printed = run_example("plain_loop.py", "--epochs", "2", "--root", str(tmp_path))
    assert "the checkpoints give the same numbers" in printed
    assert {row.epoch for row in History.load(tmp_path / "infoplane.csv")} == {0, 1, 2}


def test_the_vit_says_after_which_blocks_each_reading_is_ahead(tmp_path: Path) -> None:
    printed, _ = run_here("vit_digits.py", "--epochs", "5", "--root", str(tmp_path))
    folder = tmp_path / "lightning_logs" / "version_0"
    cls, mean = (values_of(folder / f"infoplane-{name}.csv") for name in ("cls", "mean"))
    blocks = [f"blocks.{place}" for place in range(4)]
    for when, epoch in (("Before training", 0), ("At the end", 5)):
        for name, one, other in (("class token", cls, mean), ("mean", mean, cls)):
            pairs = {block: (one[epoch, block, "AMI_TY"], other[epoch, block, "AMI_TY"]) for block in blocks}
            ahead = [block for block, (its, rest) in pairs.items() if said(rest, its).startswith("rises")]
            assert f"{when} the {name} shares clearly more with the label after {', '.join(ahead) or 'no block'}." in (
                printed
            )
    assert f"token {said(cls[0, blocks[-1], 'AMI_TY'], cls[5, blocks[-1], 'AMI_TY'])}." in printed
    assert (folder / "planes.png").exists()


def test_the_class_token_before_the_first_block_is_the_same_for_every_image(tmp_path: Path) -> None:
    """So it is not measured there, and the mean over the patches has a curve alone."""
    printed, _ = run_here("vit_digits.py", "--epochs", "1", "--root", str(tmp_path))
    folder = tmp_path / "lightning_logs" / "version_0"
    layers = [{layer for _, layer, _ in values_of(folder / f"infoplane-{name}.csv")} for name in ("cls", "mean")]
    assert layers[1] - layers[0] == {"patches"}
    value, error = values_of(folder / "infoplane-mean.csv")[1, "patches", "AMI_TY"]
    assert re.search(rf"^patches +no value +{value:.3f} ± {error:.3f}$", printed, re.MULTILINE)
    assert "Before the first block the class token is the same for every image" in printed


def test_the_gan_says_what_its_discriminator_knows_of_real_digits(tmp_path: Path) -> None:
    printed, logged = run_here("gan.py", "--epochs", "3", "--root", str(tmp_path))
    value = values_of(tmp_path / "lightning_logs" / "version_0" / "infoplane.csv")
    assert {epoch for epoch, _, _ in value} == {0, 1, 2, 3}
    assert "model called by forward_fn" in next(line for line in logged if "X: " in line)
    of_images, of_labels = printed.split("adjusted information of the discriminator with ")[1:]
    for key, part in (("AMI_XT", of_images), ("AMI_TY", of_labels)):
        for layer in ("conv1", "conv2", "conv3", "score"):
            ends = (value[epoch, f"discriminator.{layer}", key] for epoch in (0, 3))
            assert f"{layer}: {said(*ends)}.\n" in part


@pytest.fixture(scope="module")
def quick_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mlxtend")
    folder = tmp_path_factory.mktemp("study")
    run_example("paper_study.py", "--quick", "--out", str(folder))
    return folder


@pytest.fixture(params=["quick", "whole"])
def study(request: pytest.FixtureRequest) -> "Study":
    """The study's page and numbers, fresh and as they are kept beside it."""
    folder = request.getfixturevalue("quick_study") if request.param == "quick" else EXAMPLES / "results"
    return Study(folder)


class Study:
    """A page by section, and the numbers that it is made of."""

    def __init__(self, folder: Path) -> None:
        self.page = (folder / "paper_study.md").read_text(encoding="utf-8")
        self.sections = {part.split(". ")[0]: part for part in self.page.split("\n## ")}
        numbers = (folder / "paper_study.json").read_text(encoding="utf-8")
        assert len(numbers.encode()) < 400_000
        self.layers = [one for one in json.loads(numbers)["measured"] if one[0] == "layers"]

    def cells(self, section: str, *first: str) -> list[str]:
        """What follows the first cells of the one line that begins with them."""
        start = f"| {' | '.join(first)} | "
        (line,) = (line for line in self.sections[section].split("\n") if line.startswith(start))
        return line.removeprefix(start).removesuffix(" |").split(" | ")

    def sums(self, section: str, rule: str, cells: list[str]) -> list[str]:
        """The cells of all activations and moments, added up number by number."""
        lines = [
            line for line in self.tables(section).split("\n") if line.startswith(f"| {rule} | ") and "±" not in line
        ]
        rows = [line.split(" | ")[3:] for line in lines if "**all**" not in line]
        added = []
        for column, cell in zip(zip(*rows, strict=True), cells, strict=True):
            totals = iter(
                [sum(map(int, parts)) for parts in zip(*(re.findall(r"\d+", one) for one in column), strict=True)]
            )
            added.append(re.sub(r"\d+", lambda _, totals=totals: str(next(totals)), cell))
        return added

    def sentences(self, section: str) -> list[str]:
        return [line for line in self.sections[section].split("\n") if line.startswith("- **")]

    def tables(self, section: str) -> str:
        return "\n".join(line for line in self.sections[section].split("\n") if line.startswith("|"))


def ordered(gaps: list[float]) -> str:
    return f"{sum(gap >= 0 for gap in gaps)} of {len(gaps)}"


@pytest.mark.parametrize(
    ("section", "bits", "adjusted", "gap", "adjusted_gap"),
    [
        ("1a", "I_XT", "AMI_XT", DPI_XT, DPI_AMI_XT),
        ("1b", "I_error", "AMI_error", DPI_ERROR, DPI_AMI_ERROR),
    ],
)
@pytest.mark.parametrize("rule", ["default", "paper"])
def test_the_page_counts_the_gaps_of_the_study(
    study: Study, section: str, rule: str, bits: str, adjusted: str, gap: Quantity, adjusted_gap: Quantity
) -> None:
    raw, shuffled, excess, ami, of_bits, of_ami = ([] for _ in range(6))
    for *_, which, epoch, values in study.layers:
        if which != rule or "I_error" not in values:  # the epochs between the moments are for the plane
            continue
        for pair, of_pair in values[gap.key].items():
            first, second = pair.split("-to-")
            chance = values[f"{bits}_chance"]
            raw.append(of_pair)
            shuffled.append(chance[first] - chance[second])
            excess.append(values[bits][first] - chance[first] - (values[bits][second] - chance[second]))
            known = values.get(adjusted, {})
            ami += [known[first] - known[second]] if {first, second} <= known.keys() else []
        for quantity, found in ((gap, of_bits), (adjusted_gap, of_ami)):
            kinds = (quantity, quantity.p_value)
            rows = [
                Row(epoch, epoch, "", Pair(*pair.split("-to-")), kind.key, value)
                for kind in kinds
                for pair, value in values.get(kind.key, {}).items()
            ]
            found += [change.value for change in judge_gaps(rows, quantity=quantity).values()]
    cells = study.cells(section, rule, "**all**", "")
    assert study.sums(section, rule, cells) == cells
    assert cells[:4] == [ordered(raw), ordered(shuffled), ordered(excess), ordered(ami)]
    decided = [
        [found.count(word) for word in ("decrease", "increase", "undecided")] + [len(raw) - len(found)]
        for found in (of_bits, of_ami)
    ]
    assert cells[-2:] == [" / ".join(map(str, counts)) for counts in decided]
    down, up, neither, nothing = decided[1]
    said = f"{down} decreases, {up} increases, {neither} undecided and {nothing} without a value, of {len(raw)}"
    assert said in study.sentences(section)[2]
    both = f"the order holds in {ordered(raw)} pairs of layers, and in {ordered(shuffled)}"
    assert both in study.sentences(section)[0]
    if rule == "default":
        assert said in study.page.partition("## 1a")[0]


@pytest.mark.parametrize("section", ["1a", "1b", "2", "3", "4"])
def test_every_number_in_a_sentence_of_the_study_stands_in_a_table_beside_it(study: Study, section: str) -> None:
    tables = study.tables(section)
    sentences = study.sentences(section)
    said = re.findall(r"-?\d\.\d{3} ± \d\.\d{3}|\d+ of \d+|rises in \d+, falls in \d+ of \d+", "\n".join(sentences))
    assert len(said) > 5
    assert [number for number in said if number not in tables] == []


def test_the_study_has_a_picture_of_each_part_and_says_what_it_does_not_show(quick_study: Path, study: Study) -> None:
    assert len(list(quick_study.glob("paper_*.png"))) == 5
    assert "violat" not in study.page
    assert study.page.count("## What this does not show") == 1
