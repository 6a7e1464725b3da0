"""Models, corpora, training, evaluation and benchmarks."""

import sys
from importlib.util import find_spec

missing = [name for name in ("scipy", "tensorboard", "torchaudio", "yaml") if find_spec(name) is None]
if missing:
    print(f"recipes need the extra 'train' ({', '.join(missing)} missing): pip install -e '.[train]'", file=sys.stderr)
    raise SystemExit(2)
