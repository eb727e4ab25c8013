"""The command that waits for others: serve. It needs the extra ``serve``."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from restyle.cli.options import Device, Model, Quiet
from restyle.cli.signals import only_one_ctrl_c
from restyle.errors import MissingExtraError

STATIC = "Without a server"
LOOPBACK = ("localhost", "127.0.0.1", "::1")

SMALLEST_BYTES = 10_000
"""No photograph has fewer; whoever limits requests to less has taken the number for megabytes."""

NAME = r"[a-z0-9_.-]+"
ORIGIN = rf"(?!http://[^/]*:80$|https://[^/]*:443$)[a-z][a-z0-9+.-]*://({NAME}|\[[0-9a-f:]+\])(:\d+)?"
"""As browsers send it: no path, and no port that the scheme has anyway."""


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 or :: = everywhere.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 = any free one.")] = 8000,
    model: Model = "fast",
    device: Device = "auto",
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Processor threads.", show_default="all")] = None,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest picture, height x width.")] = 50_000_000,
    max_bytes: Annotated[int, typer.Option(min=SMALLEST_BYTES, help="Largest request.")] = 32_000_000,
    max_video_bytes: Annotated[
        int, typer.Option(min=SMALLEST_BYTES, help="Largest request with a video.")
    ] = 200_000_000,
    queue: Annotated[int, typer.Option(min=1, help="Requests at once; the next one is told to come back.")] = 32,
    rate: Annotated[int, typer.Option(min=0, help="Requests a minute of one client; 0 = any number.")] = 600,
    live: Annotated[int, typer.Option(min=0, help="Live cameras at once.")] = 4,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with secrets, one a line; requests must carry one.", show_default=False),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Name under which the server may be addressed; again for each.", show_default="on loopback: localhost"
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Other site whose pages may use the server; again for each.", show_default="none"),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(help="Address or network of a reverse proxy whose word on clients counts.", show_default="none"),
    ] = None,
    static: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Serve nothing; write the page as files for any web server. It paints in the browser.",
            rich_help_panel=STATIC,
            show_default=False,
        ),
    ] = None,
    onnxruntime_web: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The npm package of that name, unpacked; the page paints with it.",
            rich_help_panel=STATIC,
            show_default="fetched once",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files in DIR.", rich_help_panel=STATIC)
    ] = False,
    site: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="What --static wrote: the server's page then offers to paint in the browser, too.",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Serve the web page and the HTTP API, or write the page as files."""
    if static is not None:
        _write_static(static, model, onnxruntime_web, overwrite=overwrite, quiet=quiet)
        return
    if onnxruntime_web is not None or overwrite:
        raise ValueError("--onnxruntime-web and --overwrite go with --static")
    if site is not None and not all((site / name).is_file() for name in ("index.html", "model/card.json")):
        raise ValueError(f"--site must be a folder that restyle serve --static has written, got {str(site)!r}")
    _check_addresses(allow_host or [], allow_origin or [], proxy or [])
    try:
        from restyle.serve.app import create_app
        from restyle.serve.limits import Limits, read_tokens
        from restyle.serve.server import listen, run
    except ImportError as error:
        raise MissingExtraError("serving", extra="serve") from error
    from restyle.stylizer import Stylizer

    limits = Limits(
        max_bytes=max_bytes, max_pixels=max_pixels, max_video_bytes=max_video_bytes, queue=queue, rate=rate, live=live
    )
    tokens = read_tokens(_read(token_file)) if token_file else []
    local = host in LOOPBACK
    hosts = [*(LOOPBACK if local else ()), *(allow_host or ())]
    listening = listen(host, port)
    with only_one_ctrl_c(), listening:
        app = create_app(
            Stylizer.load(model, device=device, threads=threads),
            limits,
            tokens=tokens,
            hosts=hosts if local or allow_host else (),
            origins=allow_origin or (),
            site=site,
        )
        if not quiet:
            shown = f"[{host}]" if ":" in host else host
            typer.echo(f"restyle serves http://{shown}:{listening.getsockname()[1]}  (Ctrl-C ends it)")
            if not local and not tokens:
                typer.echo("restyle: everyone who reaches this address may use it; see --token-file", err=True)
        run(app, listening, proxies=proxy or [])


def _write_static(folder: Path, model: str, runtime: Path | None, *, overwrite: bool, quiet: bool) -> None:
    from restyle.serve.static_site import write_site

    files = write_site(folder, model, runtime=runtime, overwrite=overwrite)
    if not quiet:
        size = sum(file.stat().st_size for file in files)
        typer.echo(f"wrote {len(files)} files, {size / 1e6:.0f} MB, into {folder}")
        typer.echo(f"to look at it: python -m http.server --bind 127.0.0.1 --directory {shlex.quote(str(folder))}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise OSError(f"cannot read the token file {str(path)!r}: it is not text in UTF-8") from error
    except OSError as error:
        raise OSError(f"cannot read the token file {str(path)!r}: {error.strerror or error}") from error


def _check_addresses(hosts: list[str], origins: list[str], proxies: list[str]) -> None:
    """Refuse what no request could ever match.

    Raises:
        ValueError: naming the option and the value.
    """
    for host in hosts:
        if not (re.fullmatch(NAME, host.lower()) or (":" in host and _can_be(ipaddress.ip_address, host))):
            raise ValueError(
                "--allow-host must be a name or an address without scheme, port and path, such as "
                f"pictures.example.org; got {host!r}"
            )
    for origin in origins:
        if not re.fullmatch(ORIGIN, origin):
            raise ValueError(
                "--allow-origin must be SCHEME://HOST in lower case, with :PORT if it is not the scheme's own, such as "
                f"https://example.org; got {origin!r}"
            )
    for proxy in proxies:
        if not _can_be(ipaddress.ip_network, proxy):
            raise ValueError(f"--proxy must be an address or a network, such as 127.0.0.1 or 10.0.0.0/8; got {proxy!r}")


def _can_be(kind: Callable[[str], object], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True
