"""``tailrace token``: who may use the HTTP API."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from tailrace.cli import completing
from tailrace.cli.main import global_options
from tailrace.cli.session import current

if TYPE_CHECKING:
    from tailrace.store.tokens import TokenStore


@click.group()
@global_options
def token() -> None:
    """Make, list and revoke the tokens that HTTP asks for.

    Works on the state folder; a daemon that runs knows at once.
    """


@contextlib.contextmanager
def _store() -> Iterator[TokenStore]:
    from tailrace.store.tokens import TokenStore

    store = TokenStore(current().own_state().state_db)
    try:
        yield store
    finally:
        store.close()


@token.command()
@click.argument("name", required=False)
@click.option("--scope", "scopes", multiple=True, default=("read",), show_default=True,
              type=click.Choice(["read", "run", "admin"]), help="What it may do.")  # fmt: skip
@click.option(
    "--pipeline", "only", multiple=True, metavar="NAME", shell_complete=completing.pipelines,
    help="Only this pipeline's runs.",
)  # fmt: skip
@click.option("--expires", metavar="DURATION", help="When it ends, such as 30d; never by default.")
@global_options
def create(
    name: str | None, scopes: Sequence[str], only: Sequence[str], expires: str | None
) -> None:
    """Make a token and print it; it can't be shown again.

    NAME stands in runs as who asked; without one it is token-1, token-2 and so on.
    """
    from tailrace.cli.output import print_json
    from tailrace.core.units import parse_duration
    from tailrace.wire import timestamp

    now = time.time()
    try:
        ends = now + parse_duration(expires) / 1_000 if expires else None
        if ends is not None:
            timestamp(ends)  # which lists show
    except ValueError as exc:
        raise click.UsageError(f"--expires {expires}: {exc}") from None
    except OverflowError:
        raise click.UsageError(f"--expires {expires}: no calendar goes as far") from None
    with _store() as store:
        if name is None:
            taken = {known.name for known in store.list()}
            name = next(n for n in map("token-{}".format, itertools.count(1)) if n not in taken)
        text = store.create(name, scopes, pipelines=only or None, expires_s=ends, now=now)
    if current().as_json:
        print_json({"name": name, "token": text})
    else:
        click.echo(text)


@token.command("list")
@global_options
def list_tokens() -> None:
    """List the tokens, ended ones too."""
    from tailrace import wire
    from tailrace.cli.output import print_json, say
    from tailrace.cli.picture import make_console, print_table
    from tailrace.cli.rows import Line

    now = time.time()
    with _store() as store:
        found = store.list()
    if current().as_json:
        print_json({"tokens": [
            {
                "name": t.name,
                "scopes": sorted(t.scopes),
                "pipelines": None if t.pipelines is None else sorted(t.pipelines),
                "created_at": wire.timestamp(t.created_s),
                "expires_at": None if t.expires_s is None else wire.timestamp(t.expires_s),
                "revoked_at": None if t.revoked_s is None else wire.timestamp(t.revoked_s),
            }
            for t in found
        ]})  # fmt: skip
        return
    if not found:
        say("there are no tokens yet; `tailrace token create NAME` makes one")
        return
    rows = []
    for t in found:
        state = "valid" if t.is_valid(now) else "revoked" if t.revoked_s else "expired"
        ends = wire.timestamp(t.expires_s)[:10] if t.expires_s is not None else "never"
        rows.append([
            Line().add(t.name, "strong"),
            Line().add(state, "good" if state == "valid" else "dim"),
            Line().add(max(t.scopes, key=("read", "run", "admin").index)),
            Line().add(ends),
            Line().add(" ".join(sorted(t.pipelines)) if t.pipelines is not None else "all"),
        ])  # fmt: skip
    print_table(make_console(), ("TOKEN", "STATE", "SCOPE", "ENDS", "PIPELINES"), rows)


@token.command()
@click.argument("name")
@global_options
def revoke(name: str) -> None:
    """End a token and the browser sessions made with it."""
    from tailrace.cli.output import print_json, say

    with _store() as store:
        store.revoke(name, now=time.time())
    if current().as_json:
        print_json({"name": name, "done": "revoke"})
    else:
        say(f"{name} is revoked")
