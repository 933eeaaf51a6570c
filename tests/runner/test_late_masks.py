"""Values that a step tells of as it goes: masked from the very next byte on, and in all steps."""

from __future__ import annotations

import sys

import pytest

from runs import execute, files_with, plan_of, script
from tailrace.core.narration import MAX_MASKS
from tailrace.rundir.layout import StateDir

RACE = f"""exec {sys.executable} - <<'END'
import base64, json, os
events = os.open(os.environ["TAILRACE_EVENTS"], os.O_WRONLY)
for number in range(TRIES):
    value = f"v{{number * 7919:07}}late"
    os.write(events, json.dumps({{"event": "mask", "value": value}}).encode() + b"\\n")
    os.write(1, value.encode())
    os.write(1, b" " + base64.b64encode(value.encode()) + b"\\n")
END"""
AGAIN = f"""{sys.executable} -c '
for number in range(TRIES): print(f"v{{number * 7919:07}}late")
'"""


def values(tries: int) -> list[str]:
    return [f"v{number * 7919:07}late" for number in range(tries)]


async def race(state: StateDir, tries: int) -> None:
    """Print values right after they were told, and once more in the next step."""
    plan = plan_of(
        script("race", RACE.replace("TRIES", str(tries))),
        script("again", AGAIN.replace("TRIES", str(tries)), "race"),
    )
    done = await execute(state, plan)
    assert done.process.returncode == 0
    assert done.text("race").splitlines() == ["*** ***"] * tries
    assert done.text("again").splitlines() == ["***"] * tries
    assert len(done.told("notice")) == tries
    assert files_with(done.run.path, *values(tries)) == set()


async def test_a_value_is_masked_that_is_printed_right_after_it_was_told(state: StateDir) -> None:
    """In one write each, with nothing between them; also encoded, and in later steps."""
    await race(state, 200)


async def test_a_value_counts_however_its_event_is_written(state: StateDir) -> None:
    """JSON may write a name by escapes, and a notice says that it is masked."""
    told = r"""printf '%s\n' '{"event":"m\u0061sk","value":"late-5ecret"}' >> "$TAILRACE_EVENTS" """
    done = await execute(state, plan_of(script("a", f"{told}; echo late-5ecret")))

    assert done.text("a") == "***\n"


async def test_an_output_whose_name_is_a_secret_is_left_out(state: StateDir) -> None:
    """Names of outputs are written to disk as they are."""
    told = 'echo "$KEY=1" >> "$TAILRACE_OUTPUT"; echo fine=2 >> "$TAILRACE_OUTPUT"'
    step = script("a", told, secrets=("KEY",))
    done = await execute(state, plan_of(step), secrets={"KEY": "hunter_name_77"})

    assert done.run.outputs("a").read_text() == '{"fine":"2"}'
    (notice,) = done.told("notice")
    assert notice["text"] == "an output whose name holds what is masked is left out"


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_twenty_thousand_values_are_masked_that_are_printed_right_after(
    state: StateDir,
) -> None:
    """In twenty runs, as each masks a thousand at most."""
    for _ in range(20):
        await race(state, MAX_MASKS)


async def test_the_thousand_and_first_value_is_refused_and_told(state: StateDir) -> None:
    """A thousand in a row are masked, and don't hold up the step for long."""
    text = f"""{sys.executable} -c '
import json, os
with open(os.environ["TAILRACE_EVENTS"], "w") as events:
    for number in range({MAX_MASKS + 1}):
        events.write(json.dumps({{"event": "mask", "value": f"value{{number:05}}"}}) + "\\n")
print("value00000 value00999 value01000")
'"""
    done = await execute(state, plan_of(script("many", text)))
    notices = done.told("notice")
    assert [item["kind"] for item in notices] == ["mask"] * MAX_MASKS + ["event"]
    assert "NOT masked" in notices[-1]["text"]
    assert done.text("many") == "*** *** value01000\n"


async def test_a_value_counts_in_the_steps_beside_the_one_that_told_it(state: StateDir) -> None:
    """In what they print after the notice."""
    waiting = "until [ -e go ]; do sleep 0.01; done; echo the-late-value"
    telling = 'echo \'{"event":"mask","value":"the-late-value"}\' >> "$TAILRACE_EVENTS"'
    done = await execute(
        state,
        plan_of(
            script("beside", waiting),
            script("tells", telling),
            script("after", "touch go", "tells"),
        ),
    )
    assert done.text("beside") == "***\n"
