"""The worked example of docs/streaming.md."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "streaming.md"


def test_the_worked_example() -> None:
    (example,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "import" in code)
    exec(example, {})
