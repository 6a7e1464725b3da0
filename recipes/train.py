"""Train what a recipe describes: python -m recipes.train RECIPE.yaml [--set KEY=VALUE ...]"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from torch import distributed as dist

from recipes.training.distributed import join
from recipes.training.loop import KEPT, run_training
from recipes.training.recipe import load_recipe
from vocoders.errors import VocoderError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.train", description="Train what a recipe describes; resumes by itself."
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override, such as train.batch_size=8"
    )
    parser.add_argument("--mels", metavar="DIR", help="fine-tune on the predicted mels in DIR, as --set data.mels=DIR")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runs/NAME")
    parser.add_argument("--minutes", type=float, help="stop after so long, to be started again later")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: a GPU where there is one")
    options = parser.parse_args(arguments)
    overrides = options.set + ([f"data.mels={json.dumps(options.mels)}"] if options.mels else [])
    try:
        recipe = load_recipe(options.recipe, overrides)
        ranks = join(options.device)
        path = run_training(recipe, options.out or Path("runs") / recipe.name, ranks, options.minutes)
    except VocoderError as error:
        print(f"recipes.train: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # of the disk, such as a full one, met while logging
        print(f"recipes.train: cannot write: {error}; {KEPT}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; start again to go on from the last saved state", file=sys.stderr)
        return 130
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    if ranks.first:
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
