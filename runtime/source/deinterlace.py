"""Interlaced pictures: two moments woven into one, taken apart before a face is looked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from av.filter import Graph

FILTER = (
    "bwdif",
    "mode=send_frame:deint=interlaced",
)  # as many pictures as before; progressive ones untouched


class Deinterlacer:
    """Passes pictures on as they are until the first interlaced one, then through FFmpeg's bwdif.

    interlaced  at least one picture was interlaced
    """

    def __init__(self) -> None:
        self.interlaced = False
        self._graph: Graph | None = None
        self._shape: tuple[object, ...] = ()

    def __call__(self, picture: Any | None) -> Iterator[Any]:
        """The pictures that are ready; None at the end."""
        if picture is None:
            yield from self._flush()
            return
        if self._graph is None and not picture.interlaced_frame:
            yield picture
            return
        self.interlaced = True
        shape = (picture.width, picture.height, picture.format.name, picture.time_base)
        if shape != self._shape:
            yield from self._flush()
            self._graph, self._shape = _graph(picture), shape
        assert self._graph is not None
        self._graph.push(picture)
        yield from self._pull()

    def _flush(self) -> Iterator[Any]:
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pull()
            self._graph = None

    def _pull(self) -> Iterator[Any]:
        assert self._graph is not None
        while True:
            try:
                yield self._graph.pull()
            except (BlockingIOError, EOFError):  # FFmpeg's errors of these kinds are subclasses
                return


def _graph(picture: Any) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, time_base=picture.time_base
    )
    graph.link_nodes(source, graph.add(*FILTER), graph.add("buffersink")).configure()
    return graph
