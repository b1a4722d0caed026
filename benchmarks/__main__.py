"""Run a study of the documentation, or some of its sections; without a name, the suite.

Each study prints its tables and writes them, its figures and its runs to the folder of --output. A
second start goes on where the first stopped; delete the ``.jsonl`` files to start from nothing.
Everything runs on one thread, and seconds are of the processor, unless a table says otherwise.
"""

import argparse
from functools import partial
from pathlib import Path

from benchmarks._engine import Options, run_sections
from benchmarks.studies import (
    auprc,
    first_use,
    language,
    pu_trend,
    small,
    small_guide,
    stacking,
    suite,
    topr,
)

STUDIES = {
    "suite": suite, "auprc": auprc, "stacking": stacking, "small": small,
    "small_guide": small_guide, "pu_trend": pu_trend, "topr": topr, "language": language,
    "first_use": first_use,
}  # fmt: skip


def main(arguments=None):
    """Run the sections that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"{name}: {', '.join(s.SECTIONS)}" for name, s in STUDIES.items()),
    )
    parser.add_argument("study", nargs="?", choices=STUDIES, default="suite")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="default: all, see below")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that all runs")
    parser.add_argument("--data-home", type=Path, help="folder of NAME.npz files (else OpenML)")
    parser.add_argument("--output", type=Path, default=Path("benchmark_results"))
    parser.add_argument("--seeds", type=int, help="splits (else what each section takes)")
    parser.add_argument("--obp-python", help="Python of an environment with obp (else without)")
    given = vars(parser.parse_args(arguments))
    name, sections = given.pop("study"), given.pop("sections")
    study = STUDIES[name]
    unknown = set(sections) - set(study.SECTIONS)
    if unknown:
        parser.error(f"no such section of {name}: {', '.join(sorted(unknown))}")
    options = Options(name, study.PACKAGES, **given)
    run = getattr(study, "run_sections", partial(run_sections, study))
    run(sections or list(study.SECTIONS), options)


if __name__ == "__main__":
    main()
