"""Try every backend, precision and thread count that this machine can run; keep the fastest faithful one.

Order of work for each network: make the variants (needs the extra ``export``; without it only float32
is tried), check the drift of every backend and variant over ``samples`` inputs, refuse what is past
its bound, and only then time what is left. Times are taken in rounds, one run of every candidate in each, so
that a machine that slows down slows all of them; the median over rounds decides. The first rounds are not
counted; nothing else is left out. A cheaper precision has to win by 5 % to be chosen. So has an engine
that the base install does not bring: it takes time to load and memory, and is used only if it saves 5 % of
what the networks of a frame take. What was passed over for that says so in the record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import numpy as np

from ..backends import BACKENDS, Session, installed, open_session
from ..backends.native import session as native
from ..bundle.compiled import (
    FORMAT,
    VERSION,
    Choice,
    Measurement,
    Record,
    find_compiled,
    session_options,
    write_record,
)
from ..bundle.reader import Bundle, open_bundle
from ..drift import BOUNDS, Drift, measure, require
from ..errors import BackendError, BundleError, ParityError
from ..host.machine import this_machine, versions
from ..types import Announce, Floats
from .network_inputs import sample_inputs
from .turns import time_sessions

WARM_UP_ROUNDS = 2
WORTH = 0.05  # a cheaper precision, or one more engine, must be faster by this share to be chosen
AT_HAND = ("onnxruntime", "native")  # engines of the base install: ONNX Runtime runs what nothing else does
PAUSE_S = 0.005  # between runs: idle workers of one engine must not slow the next
CALIBRATION = 16
# float16 is tried on a GPU with "tf32"; elsewhere only on demand: no CPU here computes in it.
PRECISIONS = ("float32", "int16", "bfloat16", "int8", "tf32")


@dataclass
class _Candidate:
    """A way to run a network, before the number of threads is known."""

    backend: str
    precision: str
    data: bytes | None  # None: the bundle's own file
    options: dict[str, str] = field(default_factory=dict)
    note: str = ""


_Timed = tuple[Measurement, _Candidate]


def usable_backends() -> tuple[str, ...]:
    """The backends that run ONNX files and are installed here."""
    return tuple(name for name, backend in BACKENDS.items() if backend.runs_onnx and installed(name))


def autotune(
    bundle: str | Path,
    *,
    backends: Sequence[str] | None = None,  # None: all that are installed
    precisions: Sequence[str] = PRECISIONS,
    networks: Sequence[str] | None = None,  # None: all
    samples: int = 64,
    rounds: int = 15,
    crops: Sequence[Floats] = (),  # aligned faces, RGB float32 [3,S,S], -1..1, for calibration and checks
    report: Announce = lambda step: None,
) -> tuple[Path, Record]:
    """Measure, choose, write the record. Returns its path. Raises BundleError or BackendError.

    What an earlier record of this machine says of networks that are not in ``networks`` stays in the new one.
    """
    unknown = sorted(set(precisions) - BOUNDS.keys())
    if unknown:
        raise BackendError(f"compile: expected precisions of {', '.join(BOUNDS)}, got {', '.join(unknown)}")
    for backend in backends or ():
        if not installed(backend) or (backend in BACKENDS and not BACKENDS[backend].runs_onnx):
            raise BackendError(
                f"compile: expected a backend of {', '.join(usable_backends())}, got {backend!r}; "
                "`doppelgan doctor` tells what is missing"
            )
    chosen: dict[str, Choice] = {}
    measured: list[Measurement] = []
    variants: dict[str, bytes] = {}
    with open_bundle(bundle, compiled=False) as opened:
        names = list(dict.fromkeys(networks or opened.manifest.networks))
        if absent := sorted(set(names) - opened.manifest.networks.keys()):
            have = ", ".join(sorted(opened.manifest.networks))
            raise BackendError(f"{opened.path}: expected a network of {have}, got {absent[0]!r}")
        timed: dict[str, list[_Timed]] = {}
        for name in names:
            candidates = list(
                _candidates(opened, name, backends, precisions, crops, samples, measured, report)
            )
            timings = _measure_network(opened, name, candidates, samples, rounds, crops, report)
            measured += [row for row, _ in timings]
            faithful = [pair for pair in timings if pair[0].median_ms is not None and not pair[0].refused]
            if faithful:
                timed[name] = faithful
        best, too_little = _choose(timed, _runs_per_frame(opened))
        measured = [msgspec.structs.replace(m, note=_joined(m.note, too_little.get(m, ""))) for m in measured]
        for name, (row, winner) in best.items():
            file, digest = "", ""
            if winner.data is not None:
                digest = hashlib.sha256(winner.data).hexdigest()
                file = f"{name}.{winner.precision}.{digest[:8]}.onnx"
                variants[file] = winner.data
            chosen[name] = Choice(row.backend, row.precision, row.threads, file, digest, winner.options)
            report(f"{name}: {row.backend} {row.precision}, {row.threads} threads, {row.median_ms:.1f} ms")
        record = Record(
            format=FORMAT,
            version=VERSION,
            machine=this_machine(),
            versions=versions(),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            sources={name: opened.manifest.networks[name].sha256 for name in names},
            choices=chosen,
            measurements=tuple(measured),
        )
        record = _with_earlier(record, opened, variants)
        path = write_record(opened.path, opened.manifest, record, variants)
        folder = opened.path
    with open_bundle(folder) as tuned:  # what OpenVINO compiles is kept now: the first start is quick, too
        for name, choice in chosen.items():
            if choice.backend == "openvino":
                tuned.session(name)
    return path, record


def _with_earlier(record: Record, bundle: Bundle, variants: dict[str, bytes]) -> Record:
    """``record`` and what the one before it says of other networks; their files are added to ``variants``."""
    earlier = find_compiled(bundle.path, bundle.manifest)
    if earlier is None:
        return record
    sources, choices = dict(record.sources), dict(record.choices)
    for name, network in bundle.manifest.networks.items():
        if name in record.sources or earlier.record.sources.get(name) != network.sha256:
            continue
        choice = earlier.record.choices.get(name)
        if choice is not None:
            try:
                path = earlier.file(choice, bundle.path, network.file)
            except BundleError:
                continue  # its variant is gone
            choices[name] = choice
            if choice.file:
                variants[choice.file] = path.read_bytes()
        sources[name] = network.sha256
    rows = [m for m in earlier.record.measurements if m.network in sources.keys() - record.sources.keys()]
    return msgspec.structs.replace(
        record, sources=sources, choices=choices, measurements=(*record.measurements, *rows)
    )


def _candidates(
    bundle: Bundle,
    name: str,
    backends: Sequence[str] | None,
    precisions: Sequence[str],
    crops: Sequence[Floats],
    samples: int,
    refused: list[Measurement],  # variants that could not be made are added here
    report: Announce,
) -> Iterator[_Candidate]:
    wanted = usable_backends() if backends is None else tuple(backends)
    generator = name in bundle.manifest.generators.values()
    is_large = name == "encoder" or generator  # only these repay a variant
    variants: dict[str, tuple[bytes, str]] = {}
    half = "float16" in precisions or ("cuda" in wanted and "tf32" in precisions)
    for precision in ("float16", "int8"):
        if (half if precision == "float16" else precision in precisions) and is_large:
            try:
                variant = _variant(bundle, name, precision, crops, min(samples, 16), report)
            except (ParityError, BackendError) as error:
                refused.append(Measurement(name, "any", precision, 0, refused=str(error)))
                report(f"{name}: {error}")
            else:
                variants[precision] = variant
    for backend in wanted:
        if backend == "cuda":
            yield from _on_gpu(bundle, name, precisions, generator, is_large, variants)
            continue
        if backend == "native":  # made for these kinds of networks
            if is_large:
                yield _Candidate(backend, "float32", None)
                if "int16" in precisions and "int16" in native.precisions():
                    yield _Candidate(backend, "int16", None, {"precision": "int16"})
            continue
        yield _Candidate(backend, "float32", None)
        if "bfloat16" in precisions and is_large and backend == "openvino" and _computes_bf16():
            yield _Candidate(backend, "bfloat16", None, {"precision": "bf16"})
        for precision, (data, note) in variants.items():
            if precision in precisions:
                yield _Candidate(backend, precision, data, note=note)


def _on_gpu(
    bundle: Bundle,
    name: str,
    precisions: Sequence[str],
    generator: bool,
    large: bool,
    variants: Mapping[str, tuple[bytes, str]],
) -> Iterator[_Candidate]:
    """What is worth trying in ONNX Runtime's CUDA provider; generators also with merged up-sampling."""
    yield _Candidate("cuda", "float32", None)
    if "tf32" not in precisions or not large:
        return
    yield _Candidate("cuda", "tf32", None, {"precision": "tf32"})
    files: list[tuple[str, bytes]] = [("float16", variants["float16"][0])] if "float16" in variants else []
    for precision, data in files:
        yield _Candidate("cuda", precision, data, {"precision": precision})
    if not generator:
        return
    try:
        from doppelgan.export.variants.upsampling import by_phases
    except ModuleNotFoundError:
        return
    source = (bundle.path / bundle.manifest.networks[name].file).read_bytes()
    for precision, data in [("tf32", source), *files]:
        yield _Candidate(
            "cuda", precision, by_phases(data), {"precision": precision}, "up-sampling by phases"
        )


def _computes_bf16() -> bool:
    from ..backends.openvino import cpu_precisions

    return "bf16" in cpu_precisions()


def _variant(
    bundle: Bundle, name: str, precision: str, crops: Sequence[Floats], samples: int, report: Announce
) -> tuple[bytes, str]:
    """The network in another precision and a word on how. Raises ParityError or BackendError."""
    try:
        from doppelgan.export.variants.precision import make_variant
    except ModuleNotFoundError as error:
        raise BackendError(
            f"compile: {precision} needs the package {error.name!r}, which is not installed; "
            'run `pip install "doppelgan[export]"`'
        ) from None
    variant = make_variant(
        name,
        (bundle.path / bundle.manifest.networks[name].file).read_bytes(),
        precision,
        sample_inputs(bundle, name, CALIBRATION, seed=1, crops=crops[::2]),
        sample_inputs(bundle, name, samples, seed=2, crops=crops[1::2]),
        weight_bits=7 if this_machine().int8_saturates else 8,
        transposed=this_machine().int8_transposed,
        report=report,
    )
    kept = f"{len(variant.kept)} of its layers float32" if variant.kept else ""
    return variant.onnx, ", ".join(filter(None, (variant.note, kept)))


def _measure_network(
    bundle: Bundle,
    name: str,
    candidates: Sequence[_Candidate],
    samples: int,
    rounds: int,
    crops: Sequence[Floats],
    report: Announce,
) -> list[_Timed]:
    report(f"{name}: float32 results of {samples} samples")
    feeds = sample_inputs(bundle, name, samples, seed=3, crops=crops[1::2])
    reference_session = bundle.session(name)
    output = reference_session.outputs[0].name
    reference = [reference_session.run(one)[output] for one in feeds]
    image = name in bundle.manifest.generators.values()
    cores = this_machine().cores
    splits = sorted({1, max(1, cores // 2), cores}, reverse=True)

    rows: list[_Timed] = []
    running: list[tuple[_Candidate, int, Drift, Session]] = []
    for candidate in candidates:
        report(f"{name}: check {candidate.backend} {candidate.precision}")
        drift = None
        try:
            with _opened(bundle, name, candidate, splits[0]) as session:
                drift = measure(reference, [session.run(one)[output] for one in feeds], image=image)
            require(name, candidate.precision, drift)
            tried = splits[-1:] if candidate.backend == "cuda" else splits
            for threads, session in zip(tried, _open_all(bundle, name, candidate, tried), strict=True):
                running.append((candidate, threads, drift, session))
        except (BackendError, ParityError) as error:
            row = Measurement(
                name, candidate.backend, candidate.precision, 0, drift=drift, refused=str(error)
            )
            rows.append((row, candidate))
    report(f"{name}: time {len(running)} candidates")
    times = time_sessions(
        [(session, feeds) for *_, session in running], rounds, warm_up=WARM_UP_ROUNDS, pause_s=PAUSE_S
    )
    for (candidate, threads, drift, session), series in zip(running, times, strict=True):
        session.close()
        median, p95 = (float(v) for v in np.percentile(series, (50, 95)))
        row = Measurement(
            name, candidate.backend, candidate.precision, threads, median, p95, drift, note=candidate.note
        )
        rows.append((row, candidate))
    return rows


def _rank(row: Measurement) -> float:
    """Milliseconds, with a handicap for what is not float32: noise must not buy a loss of fidelity."""
    return (row.median_ms or 0.0) * (1.0 if row.precision == "float32" else 1.0 + WORTH)


def _choose(
    timed: Mapping[str, Sequence[_Timed]],  # network -> what was timed and not refused
    runs: Mapping[str, int],  # network -> runs per frame
) -> tuple[dict[str, _Timed], dict[Measurement, str]]:
    """The best of each network, and of the faster ones that were passed over the reason."""
    best = {name: min(pairs, key=_rank_of) for name, pairs in timed.items()}
    passed_over: dict[Measurement, str] = {}
    for extra in sorted({row.backend for row, _ in best.values()}.difference(AT_HAND)):
        others = {name: [p for p in pairs if p[0].backend != extra] for name, pairs in timed.items()}
        if not all(others.values()):
            continue  # there is a network that runs in it alone
        without = {name: min(pairs, key=_rank_of) for name, pairs in others.items()}
        frame_ms, saved_ms = 0.0, 0.0
        for name, pair in without.items():
            frame_ms += runs.get(name, 0) * _rank_of(pair)
            saved_ms += runs.get(name, 0) * (_rank_of(pair) - _rank_of(best[name]))
        if saved_ms >= WORTH * frame_ms and saved_ms > 0:
            continue
        word = f"{extra} saves {saved_ms:.1f} ms of a frame's {frame_ms:.1f}: too little to load it"
        for name, pairs in timed.items():
            faster = (
                row for row, _ in pairs if row.backend == extra and _rank(row) < _rank_of(without[name])
            )
            passed_over |= dict.fromkeys(faster, word)
        best = without
    return best, passed_over


def _runs_per_frame(bundle: Bundle) -> dict[str, int]:
    """How often each network runs while one face is followed; the detector and the mapping network do not."""
    encoder = bundle.manifest.encoder
    steps = encoder.steps if encoder is not None else 0
    generator = bundle.manifest.generators[bundle.styles[0]] if bundle.styles else ""
    drawn = 1 + (steps if encoder is not None and encoder.loop == "restyle" else 0)
    return {"landmarks": 1, "encoder": steps, generator: drawn}


def _rank_of(pair: _Timed) -> float:
    return _rank(pair[0])


def _joined(*words: str) -> str:
    return ", ".join(filter(None, words))


def _open_all(bundle: Bundle, name: str, candidate: _Candidate, splits: Sequence[int]) -> list[Session]:
    """One session for each number of threads; native ones share their memory, which is gigabytes for e4e."""
    first = _open(bundle, name, candidate, splits[0])
    if isinstance(first, native.NativeSession):
        return [first, *(first.with_threads(threads) for threads in splits[1:])]
    return [first, *(_open(bundle, name, candidate, threads) for threads in splits[1:])]


def _open(bundle: Bundle, name: str, candidate: _Candidate, threads: int) -> Session:
    import tempfile

    choice = Choice(candidate.backend, candidate.precision, threads, options=candidate.options)
    if candidate.data is None:
        path = bundle.path / bundle.manifest.networks[name].file
        return open_session(path, threads=threads, **session_options(choice))
    with tempfile.TemporaryDirectory(prefix="doppelgan-") as folder:
        path = Path(folder) / f"{name}.{candidate.precision}.onnx"
        path.write_bytes(candidate.data)
        return open_session(path, threads=threads, **session_options(choice))


@contextmanager
def _opened(bundle: Bundle, name: str, candidate: _Candidate, threads: int) -> Iterator[Session]:
    session = _open(bundle, name, candidate, threads)
    try:
        yield session
    finally:
        session.close()
