"""A client of the daemon for Python programs: async, typed, resumes by itself.

```python
async with Client("http://127.0.0.1:8470", token=token) as client:
    run = await client.start("analyze", {"repo": "https://github.com/pallets/flask"})
    async for told in client.follow(run.id):
        print(told.seq, told.event)
```

What is named here is public; docs/reference/client.md describes it. Events are
those of `tailrace.core.events`, runs those of `tailrace.wire`, errors those of
`tailrace.errors`.
"""

from tailrace.client.client import Client, NotStartedError
from tailrace.client.stream import Lateness, SseParser
from tailrace.client.told import Told, Unknown
from tailrace.wire import LogData as Log

__all__ = ["Client", "Lateness", "Log", "NotStartedError", "SseParser", "Told", "Unknown"]
