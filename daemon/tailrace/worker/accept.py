"""Makes a run of a submission: everything checked, then its folder, whole or not at all.

Used by the daemon and by ``tailrace run`` without one. Nothing here is
asynchronous: checking takes some 3 ms, writing 1 ms on a disk that syncs fast.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from tailrace import wire
from tailrace.core import events
from tailrace.core.mask_rules import MaskRules, can_be_masked
from tailrace.core.plan import CloneAction, ParamValue, Plan, RunFile
from tailrace.core.units import format_bound, format_size
from tailrace.errors import (
    DISK_RETRY_S,
    InvalidInputError,
    Problem,
    TailraceError,
    UnavailableError,
)
from tailrace.pipeline.catalog import Catalog
from tailrace.pipeline.expressions import Scope, TemplateError, text_of
from tailrace.pipeline.loader import load_pipeline
from tailrace.pipeline.model import Pipeline
from tailrace.pipeline.params import check_params
from tailrace.pipeline.planner import PlanDefaults, choose_depth, make_plan
from tailrace.rundir.layout import StateDir
from tailrace.settings import Settings
from tailrace.worker.counter import Counter
from tailrace.worker.git_check import clone_problems, userinfo_secrets, whole_path
from tailrace.worker.prepared import Accepted, Prepared
from tailrace.worker.record import masked_run_file, new_run_file, plan_event
from tailrace.worker.repeat import check_workspace
from tailrace.worker.requirements import (
    Requirements,
    credential_secrets,
    masking,
    resolve_secrets,
    sandbox_problems,
)
from tailrace.worker.secrets import SecretStore
from tailrace.worker.shapes import load_all_shapes
from tailrace.worker.submission import Repeat, Submission
from tailrace.worker.workspace import holding_workspaces


class Acceptor:
    """Accepts runs into one state folder, by one version of the settings."""

    def __init__(
        self,
        state: StateDir,
        settings: Settings,
        catalog: Catalog,
        secrets: SecretStore,
    ) -> None:
        self._state = state
        self._settings = settings
        self._catalog = catalog
        self._secrets = secrets
        self._plain_settings: dict[str, Any] = msgspec.to_builtins(settings)
        self._shapes = load_all_shapes(settings)
        # Compiled once; a run's secrets are layers on top, which take a millisecond each.
        self._base_rules = MaskRules({}, self._shapes)
        catalog.mask_mistakes(self._base_rules.mask_text)
        self.requirements = Requirements(settings, secrets, self._base_rules)

    async def ready(self, submission: Submission) -> None:
        """Ask the MCP servers that the pipeline requires, unless they were asked a moment ago.

        To be awaited before `prepare`, which goes by what was found. What is
        wrong with the submission is told there.
        """
        with contextlib.suppress(TailraceError):
            await self.requirements.look(self._pipeline(submission).requires)

    def accept(
        self, submission: Submission, *, position: int = 0, reason: str | None = None
    ) -> Accepted:
        """Check everything and make the run.

        Whatever fails, nothing half made stays behind.

        Raises:
            InvalidInputError: the pipeline, params, depth, secrets or addresses
                can't be used as they are; every mistake of a kind at once.
            UnknownError: there is no such pipeline.
            UnavailableError: the disk is too full, or can't be written.
        """
        with self.prepare(submission) as prepared:
            return prepared.commit(position=position, reason=reason)

    def prepare(self, submission: Submission) -> Prepared:
        """Check everything, as `accept`, and make nothing yet.

        Raises: as `accept`.
        """
        self.check_disk()
        pipeline = self._pipeline(submission)
        with self._masked_refusals(pipeline):
            return self._prepare_new(pipeline, submission)

    def _prepare_new(self, pipeline: Pipeline, submission: Submission) -> Prepared:
        if problems := self.requirements.missing(pipeline.requires):
            raise InvalidInputError(problems)
        given = _checked_params(pipeline, submission)
        git_params = {
            name: whole_path(value, submission.cwd) if submission.trusted else value
            for name, value in given.items()
            if pipeline.params[name].type == "git-url" and isinstance(value, str)
        }
        given |= git_params
        with ExitStack() as resources:
            counter = resources.push(self._counter(pipeline.name))
            run_file = new_run_file(pipeline.name, counter.next, submission)
            plan = self._plan(pipeline, given, submission, run_file)
            prepared = self._prepare(run_file, plan, given, git_params, counter)
            resources.pop_all()
        return prepared

    def prepare_repeat(self, repeat: Repeat) -> Prepared:
        """Check everything for a run that repeats another one, and make nothing yet.

        It has the other's plan and params; what that requires was looked at by
        `Requirements.look`. Raises: as `accept`, and
        ConflictError where the other's workspace is gone.
        """
        self.check_disk()
        old = repeat.of
        _check_params_known(old)
        if problems := self.requirements.missing(old.plan.requires):
            raise InvalidInputError(problems)
        with ExitStack() as resources:
            held = resources.enter_context(ExitStack())
            self._hold_workspaces(held)
            check_workspace(self._state, repeat)
            counter = resources.push(self._counter(old.pipeline))
            run_file = msgspec.structs.replace(
                new_run_file(old.pipeline, counter.next, repeat),
                retry_of=old.id,
                reused=repeat.reused,
                workspace=old.workspace or old.id,
            )
            prepared = self._prepare(run_file, old.plan, old.params, {}, counter)
            prepared.held = held
            resources.pop_all()
        return prepared

    @contextlib.contextmanager
    def _masked_refusals(self, pipeline: Pipeline) -> Iterator[None]:
        """Mask what a refusal quotes: it goes to whoever asked, and into logs on the way."""
        try:
            yield
        except InvalidInputError as refusal:
            names = {*pipeline.secrets, *credential_secrets(self._settings)}
            names.update(name for step in pipeline.steps.values() for name in step.secrets)
            values = []
            for name in names:
                with contextlib.suppress(InvalidInputError):  # refused or not: it isn't quoted
                    values.append(self._secrets.get(name))
            mask = self._base_rules.with_values(filter(can_be_masked, values)).mask_text
            raise InvalidInputError([each.masked(mask) for each in refusal.problems]) from None

    def _hold_workspaces(self, held: ExitStack) -> None:
        try:
            held.enter_context(holding_workspaces(self._state, alone=False))
        except OSError as exc:
            message = f"{self._state.workspaces}: {exc.strerror}"
            raise UnavailableError(message, retry_after_s=DISK_RETRY_S) from exc

    def check_disk(self) -> None:
        """Refuse to start anything on a disk with less than ``limits.min_free``: a statvfs(3).

        Raises:
            UnavailableError: it has less, or doesn't tell.
        """
        least = self._settings.limits.min_free
        try:
            free = shutil.disk_usage(self._state.path).free
        except OSError as exc:
            message = f"{self._state.path}: {exc.strerror}"
            raise UnavailableError(message, retry_after_s=DISK_RETRY_S) from exc
        if free < least:
            raise UnavailableError(
                f"only {format_size(free)} free below {self._state.path}, and no run starts under "
                f"{format_bound(least)} (limits.min_free); free some space",
                retry_after_s=DISK_RETRY_S,
            )

    def _pipeline(self, submission: Submission) -> Pipeline:
        asked = submission.pipeline
        if "/" not in asked and not asked.endswith((".yaml", ".yml")):
            return self._catalog.get(asked)
        if not submission.trusted:
            raise InvalidInputError(
                [Problem("pipeline", f"'{asked}' is a path", "give the name of a pipeline")]
            )
        return load_pipeline(Path(submission.cwd or "/", asked), display=asked)

    def _plan(
        self,
        pipeline: Pipeline,
        params: Mapping[str, ParamValue],
        submission: Submission,
        run_file: RunFile,
    ) -> Plan:
        limits = self._settings.limits
        try:
            plan = make_plan(
                pipeline,
                params,
                depth=submission.depth,
                event=submission.event,
                run_id=run_file.id,
                run_ref=run_file.ref,
                defaults=PlanDefaults(timeout_ms=limits.timeout, parallel=os.cpu_count() or 1),
            )
        except TemplateError as exc:
            raise InvalidInputError([Problem("concurrency.group", str(exc))]) from None
        if submission.on_disconnect is None:
            return plan
        return msgspec.structs.replace(plan, on_disconnect=submission.on_disconnect)

    def _counter(self, pipeline: str) -> Counter:
        """Return the pipeline's counter, held."""
        counter = Counter(self._state, pipeline)
        try:
            return counter.__enter__()
        except OSError as exc:
            message = f"{self._state.counter(pipeline)}: {exc.strerror}"
            raise UnavailableError(message, retry_after_s=DISK_RETRY_S) from exc

    def _prepare(
        self,
        run_file: RunFile,
        plan: Plan,
        params: Mapping[str, ParamValue],
        git_params: Mapping[str, str],
        counter: Counter,
    ) -> Prepared:
        scope = Scope(
            params=params,
            depth=plan.depth,
            event=run_file.event,
            run_id=run_file.id,
            run_ref=run_file.ref,
        )
        problems = clone_problems(
            plan,
            git_params,
            scope,
            self._settings.git,
            trusted=run_file.trusted,
            reused=run_file.reused,
        )
        required = [s.id for s in plan.steps if s.sandbox == "required"]
        problems += sandbox_problems(step for step in required if step not in run_file.reused)
        secrets = self._resolve(plan, problems) | userinfo_secrets(params.values())
        rules = masking(self._base_rules, secrets, self._settings.limits.held, problems)
        if problems:
            raise InvalidInputError(problems)
        hidden = {name: v for name, v in params.items() if rules.would_mask(text_of(v, name))}
        run_file = masked_run_file(run_file, plan, params, hidden, rules)
        first = events.masked_fields(plan_event(run_file, plan, scope), rules.mask_text)
        handover = self._handover(secrets, hidden)
        return Prepared(self._state, run_file, handover, first, counter)

    def _handover(self, secrets: dict[str, str], hidden: dict[str, ParamValue]) -> wire.Handover:
        return wire.Handover(
            secrets=secrets,
            params=hidden,
            shapes=self._shapes,
            settings=self._plain_settings,
        )

    @property
    def usual_handover(self) -> wire.Handover:
        """What all hand-overs have in common."""
        return self._handover({}, {})

    def handover(self, run_file: RunFile) -> wire.Handover:
        """Return the hand-over of a run that was accepted by another process and hasn't started.

        Raises:
            InvalidInputError: a secret isn't there any more, or its params held one.
        """
        _check_params_known(run_file)
        problems: list[Problem] = []
        secrets = self._resolve(run_file.plan, problems)
        if problems:
            raise InvalidInputError(problems)
        return self._handover(secrets, {})

    def _resolve(self, plan: Plan, problems: list[Problem]) -> dict[str, str]:
        """Look up every secret; add a problem for each that can't be had."""
        secrets = resolve_secrets(self._secrets, plan.secrets, problems)
        if any(isinstance(step.action, CloneAction) for step in plan.steps):
            for name in credential_secrets(self._settings):
                # Another host's credential must not keep this run from starting; a clone that
                # needs one that isn't there says so.
                with contextlib.suppress(InvalidInputError):
                    secrets.setdefault(name, self._secrets.get(name))
        return secrets


def _checked_params(pipeline: Pipeline, submission: Submission) -> dict[str, ParamValue]:
    """Return the params' values; mistakes in them and in the depth are told together."""
    problems: list[Problem] = []
    given: dict[str, ParamValue] = {}
    try:
        given = check_params(pipeline, submission.params, text=submission.text)
    except InvalidInputError as exc:
        problems += exc.problems
    try:
        choose_depth(pipeline, submission.depth)
    except InvalidInputError as exc:
        problems += exc.problems
    if problems:
        raise InvalidInputError(problems)
    return given


def _check_params_known(run_file: RunFile) -> None:
    if run_file.params_masked:
        hint = "start a new run and give " + ", ".join(run_file.params_masked)
        raise InvalidInputError([Problem("params", "its parameters held a secret", hint)])
