"""Command line of the page's benchmark."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import __doc__ as description
from . import parts
from .browser import Page
from .report import Section, keep


def main() -> None:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ["ways", "looks", "troubles", "thin", "soak", "screenshots"]
    parser.add_argument("--only", choices=names, help="one part alone")
    parser.add_argument("--seconds", type=float, default=8, help="of every row in a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--soak", type=float, default=0, metavar="MINUTES")
    parser.add_argument(
        "--camera-fps",
        type=int,
        default=30,
        metavar="N",
        help="of the camera; 10 leave a machine room for other work",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="STEM", help="keep results in STEM.json, STEM.md"
    )
    chosen = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        page = Page(folder, chosen.camera_fps)

        def kept(section: Section) -> None:
            if chosen.output is not None:
                keep(section, page.driver.capabilities["browserVersion"], chosen.output)

        measurements: dict[str, Callable[[], Section]] = {
            "ways": lambda: parts.ways(page, folder, chosen.seconds, chosen.rounds),
            "looks": lambda: parts.looks(page, folder, chosen.seconds),
            "troubles": lambda: parts.troubles(page, folder),
            "thin": lambda: parts.thin(page, folder, 60),
            "soak": lambda: parts.soak(page, folder, chosen.soak or 5, chosen.camera_fps, kept),
        }
        try:
            for part, measure in measurements.items():
                if part == chosen.only or (chosen.only is None and (part != "soak" or chosen.soak)):
                    kept(measure())
            if chosen.only == "screenshots":
                parts.screenshots(page, folder)
        finally:
            page.driver.quit()


if __name__ == "__main__":
    main()
