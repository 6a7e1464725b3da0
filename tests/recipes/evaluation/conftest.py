import pytest


@pytest.fixture(autouse=True)
def _no_word_of_pesq(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the command say the same whether the extra pesq is installed or not."""
    monkeypatch.setattr("recipes.evaluate.HAS_PESQ", True)
