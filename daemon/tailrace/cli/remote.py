"""Runs of a daemon, as the commands see them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

from tailrace import wire
from tailrace.cli.source import Asked
from tailrace.client import Client, NotStartedError
from tailrace.core.events import LAST_EVENTS
from tailrace.errors import InvalidInputError, Problem, UnknownError
from tailrace.pipeline.params import Unfit, from_text
from tailrace.pipeline.spelling import printable, suggest


class Remote:
    """A `tailrace.cli.source.Source` over HTTP."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def start(self, asked: Asked) -> tuple[str | None, str | None]:
        """Start a run; text becomes what the pipeline's params are."""
        params: dict[str, Any] = dict(asked.params)
        ours: dict[str, Problem] = {}
        try:
            if params:
                described = await self._client.pipeline(asked.pipeline)
                kinds = (described.params_schema or {}).get("properties", {})
                for name, text in asked.params.items():
                    try:
                        params[name] = typed(text, kinds.get(name) or {})
                    except Unfit as unfit:  # sent as text, and refused with all else that is wrong
                        where = f"params.{name}"
                        ours[where] = Problem(where, unfit.problem, unfit.hint)
            run = await self._client.start(
                asked.pipeline,
                params,
                depth=asked.depth,
                keep_workspace=asked.keep_workspace,
                on_disconnect=asked.on_disconnect,
            )
        except NotStartedError as skipped:
            return None, skipped.reason
        except InvalidInputError as refused:
            told = [ours.get(problem.where, problem) for problem in refused.problems]
            raise InvalidInputError(told) from None
        except UnknownError:  # whose hint is for HTTP
            raise await no_pipeline(self._client, [asked.pipeline]) from None
        return run.id, None

    async def retry(self, run_id: str, start: str) -> str:
        """Repeat a run."""
        return (await self._client.retry(run_id, start)).id

    async def settle(self) -> None:
        """Return at once: a daemon's runs need nobody else."""

    async def resolve(self, text: str) -> str:
        """Return the id of the run that *text* means."""
        if text == "latest":
            runs, _ = await self._client.page(pipeline=None, status=None, limit=1, cursor=None)
            if not runs:
                raise UnknownError("there are no runs yet")
            return runs[0].id
        return (await self._client.view(text)).id

    async def page(
        self, *, pipeline: str | None, status: str | None, limit: int, cursor: str | None
    ) -> tuple[list[wire.RunSummary], str | None]:
        """Return runs, newest first, and the cursor of the next page."""
        return await self._client.page(pipeline=pipeline, status=status, limit=limit, cursor=cursor)

    async def view(self, run_id: str) -> wire.RunView:
        """Return a run's state."""
        return await self._client.view(run_id)

    async def events(
        self,
        run_id: str,
        *,
        after: int = 0,
        tail: int | None = None,
        step: str | None = None,
        follow: bool = True,
        texts: bool = True,
    ) -> AsyncGenerator[list[wire.Frame], None]:
        """Give a run's events."""
        until = None if follow else (await self._client.view(run_id)).last_seq
        stream = self._client.events(run_id, after=after, tail=tail, step=step, skip_late=not texts)
        async with contextlib.aclosing(stream) as batches:
            async for frames in batches:
                if until is None or frames[-1].event in LAST_EVENTS:
                    yield frames
                    continue
                if kept := [frame for frame in frames if frame.seq <= until]:
                    yield kept
                if frames[-1].seq >= until:
                    return

    def log_reader(self, run_id: str) -> Callable[[str, int, int, int], bytes] | None:
        """Return None: a stream's events bring their text."""
        del run_id
        return None

    async def cancel(
        self, run_id: str, reason: str | None = None, *, key: str | None = None
    ) -> None:
        """Cancel a run."""
        await self._client.cancel(run_id, reason, key=key)

    async def pause(self, run_id: str) -> None:
        """Freeze a run."""
        await self._client.pause(run_id)

    async def resume(self, run_id: str) -> None:
        """Go on with a paused run."""
        await self._client.resume(run_id)

    async def answer(self, run_id: str, prompt: str, answer: str) -> None:
        """Answer a prompt."""
        await self._client.answer(run_id, prompt, answer)

    async def progress(self, run_id: str, body: wire.ProgressBody) -> None:
        """Tell how far a step is."""
        await self._client.progress(run_id, body)

    async def skip(self, run_id: str, step: str) -> None:
        """Skip a step."""
        await self._client.skip(run_id, step)

    async def extend(self, run_id: str, step: str, by: str) -> None:
        """Give a step's attempt more time."""
        await self._client.extend(run_id, step, by)

    async def delete(self, run_id: str) -> None:
        """Delete a finished run."""
        await self._client.delete(run_id)

    async def artifact(self, run_id: str, name: str) -> AsyncGenerator[bytes, None]:
        """Give an artifact's bytes."""
        try:
            async with contextlib.aclosing(self._client.artifact(run_id, name)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except UnknownError:  # whose hint is for HTTP
            raise UnknownError(
                f"it left no artifact '{printable(name)}'; without --get they are listed"
            ) from None

    async def pipelines(self) -> list[wire.PipelineView]:
        """Return the pipelines."""
        return await self._client.pipelines()


async def no_pipeline(client: Client, names: Sequence[str]) -> UnknownError:
    """Return what to say where the daemon knows one of these pipelines not."""
    known = [pipeline.name for pipeline in await client.pipelines()]
    name = next((name for name in names if name not in known), names[0])
    hint = suggest(name, known, otherwise="`tailrace pipelines` lists them")
    return UnknownError(f"no pipeline is named '{printable(name)}'; {hint}")


def typed(text: str, schema: dict[str, Any]) -> Any:
    """Return a param's text as JSON of its type.

    A local repository is named from here, so its path is made absolute: the
    daemon stands elsewhere.

    Raises:
        Unfit: it is no such value.
    """
    kind = schema.get("type")
    if kind in ("integer", "number", "boolean"):
        return from_text(kind, text)  # as without a daemon
    if schema.get("format") == "uri-reference" and _is_local(text):
        return str(Path(text).expanduser().absolute())
    return text


def _is_local(text: str) -> bool:
    return text.startswith((".", "/", "~")) or Path(text).is_dir()
