"""The tables of losses and discriminators, what can be imported, and what the README says of them."""

import re
import subprocess
import sys

import pytest

import losses
from losses import DISCRIMINATORS, LOSSES
from tests.support import ROOT

README = (ROOT / "losses" / "README.md").read_text()


def rows(first: str) -> list[list[str]]:
    """The cells of the README's table whose first column is ``first``."""
    lines = README[README.index(f"| {first} | class |") :].splitlines()[2:]
    end = next(number for number, line in enumerate(lines) if not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:end]]


def test_the_readme_lists_every_loss() -> None:
    listed = [(name, kind, terms) for name, kind, terms, _ in rows("loss")]
    expected = [
        (f"`{name}`", f"`{kind.__name__}`", ", ".join(f"`{term}`" for term in kind.terms))
        for name, kind in LOSSES.items()
    ]
    assert listed == expected


def test_the_readme_lists_every_discriminator() -> None:
    assert [row[:2] for row in rows("discriminator")] == [
        [f"`{name}`", f"`{kind.__name__}`"] for name, kind in DISCRIMINATORS.items()
    ]


def test_every_paper_has_an_address() -> None:
    for *_, paper in rows("loss") + rows("discriminator"):
        assert re.search(r"arxiv\.org/abs/\d{4}\.\d{5}", paper) or paper.startswith("the same")


@pytest.mark.parametrize("kind", [*LOSSES.values(), *DISCRIMINATORS.values()], ids=lambda kind: kind.__name__)
def test_everything_is_imported_from_losses(kind: type) -> None:
    assert getattr(losses, kind.__name__) is kind
    assert kind.__name__ in losses.__all__


def test_torchaudio_is_not_imported() -> None:
    code = "import sys, losses; sys.exit('torchaudio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
