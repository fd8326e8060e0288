"""Running a pipeline over a file, or live: capture, inference and output overlap."""

from __future__ import annotations

from .run import FilesReport, LiveReport, Progress, run_files, run_live

__all__ = ["FilesReport", "LiveReport", "Progress", "run_files", "run_live"]
