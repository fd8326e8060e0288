"""The command ``doppelgan``: a group whose commands are imported only when called.

Errors that a user can cause are printed as one line and exit with 2; Ctrl-C exits with 130 (SIGTERM
with 143, SIGHUP with 129) after every file was closed properly.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import signal
import sys
import warnings
from importlib import import_module, metadata

import click

from ..errors import DoppelganError, one_line
from ..host.signals import stop_as_ctrl_c

# Command -> (module beside this file, one-line help). Kept here so that `--help` imports nothing.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "Run the embedded avatar on the embedded clip: a video, a sheet, a latency table."),
    "image": ("image", "Edit the faces in pictures."),
    "video": ("video", "Edit the faces in a video file; sound, size and rate are kept."),
    "live": ("live", "Edit faces from a camera or stream into a window, a virtual camera or a file."),
    "serve": ("serve", "The page: camera in, avatar out, and everything you can turn, in the browser."),
    "enroll": ("enroll", "Make a live avatar of a person: from one picture, several, a clip or a camera."),
    "invert": ("invert", "Find the code of a picture by optimization: in W, in W+, or between."),
    "check": ("check", "Tell whether pictures and videos were made with doppelgan, and how sure that is."),
    "export": ("export", "Turn a pSp / e4e / ReStyle / StyleGAN2 checkpoint into a bundle."),
    "compile": (
        "compile",
        "Find the fastest faithful way to run a bundle on this machine, or build engines.",
    ),
    "bench": ("bench", "Measure a bundle: per network and end to end, alone or against another."),
    "bundles": ("bundles", "List and inspect bundles."),
    "doctor": ("doctor", "Tell what this machine can run and what is missing."),
}


class LazyGroup(click.Group):
    """Import a command's module when it is called or its own help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            close = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
            guess = f"did you mean {close[0]}?" if close else f"commands: {', '.join(COMMANDS)}"
            raise click.UsageError(f"no such command {cmd_name!r}; {guess}", ctx)
        command: click.Command = import_module(f".{COMMANDS[cmd_name][0]}", __name__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _, asked: _print_version(ctx) if asked else None,
    help="Show the version and exit.",
)
def group() -> None:
    """Compiled edge runtime for GAN face editing.

    \b
    doppelgan demo                                  see it work: no camera, no GPU, no checkpoint
    doppelgan video me.mp4 -o older.mp4 --edit grey=0.8
    doppelgan live --style toon --composite replace --to camera:
    doppelgan export e4e_ffhq_encode.pt -o engines/mine
    """


def main() -> None:
    """Entry point of the installed command."""
    _hold_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may hold bytes that are no letters
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        with stop_as_ctrl_c():
            code: int | None = group.main(prog_name="doppelgan", standalone_mode=False)
    except DoppelganError as error:
        _say(f"doppelgan: error: {error}")
        code = 2
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = 0
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "doppelgan"
        message = error.format_message().rstrip(".")
        _say(one_line(f"doppelgan: error: {message}; see `{path} --help`"))
        code = error.exit_code
    except click.ClickException as error:
        _say(one_line(f"doppelgan: error: {error.format_message()}"))
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt) as stop:
        _say("doppelgan: stopped")
        code = 128 + int(getattr(stop.__cause__ or stop, "number", signal.SIGINT))  # click wraps it
    except BrokenPipeError:  # the reader of our standard output went away, e.g. `| head`
        code = 141
    except OSError as error:  # of a file that a library or Python itself opened, or of a standard stream
        place = error.filename if error.filename is not None else "standard output"
        what = f"{place}: {error.strerror or error}; check the name, space and permissions"
        _say(one_line(f"doppelgan: error: {what}"))
        code = 2
    except MemoryError:
        _say("doppelgan: error: expected a task that fits into memory; choose smaller sizes or fewer threads")
        code = 2
    sys.exit(_flushed(code))


def _hold_closed_streams() -> None:
    """Put the null device where a standard stream is closed (`2>&-`).

    Otherwise the first files that are opened take these numbers, and what libraries print lands in them.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _flushed(code: int | None) -> int | None:
    """Write out what is still to be printed; the exit code, which says so if that fails."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except OSError as error:
            # What stays in the buffer must not be tried again while Python shuts down.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if code in (0, None):
                code = 141 if isinstance(error, BrokenPipeError) else 2
                if code == 2 and stream is sys.stdout:
                    _say(f"doppelgan: error: standard output: {error.strerror}; check space and permissions")
    return code


def _say(text: str) -> None:
    """To standard error, if that can be written to."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(text, err=True)


def _print_version(ctx: click.Context) -> None:
    try:
        number = metadata.version("doppelgan")
    except metadata.PackageNotFoundError:
        number = "not installed: run from its source"
    click.echo(f"doppelgan {number}")
    ctx.exit()


def _show_warning(message: Warning | str, *_: object) -> None:
    """Warnings for people: one line, no place in the code."""
    _say(f"doppelgan: warning: {message}")
