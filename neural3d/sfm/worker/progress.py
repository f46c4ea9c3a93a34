"""What the process says: lines of JSON on stdout."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

POLL = 0.3  # seconds between looks at how far a stage has come


def tell(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def watched(stage: str, total: int, done: Callable[[], int], work: Callable[[], Any]) -> Any:
    """work() in a thread of its own, `done` told meanwhile; raises what it raises."""
    outcome: dict[str, Any] = {}

    def attempt() -> None:
        try:
            outcome["result"] = work()
        except Exception as error:
            outcome["error"] = error

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    last = -1
    while thread.is_alive():
        if (now := min(done(), total)) != last:
            tell(stage=stage, done=now, total=total)
            last = now
        thread.join(POLL)
    if "error" in outcome:
        raise outcome["error"]
    if last != total:
        tell(stage=stage, done=total, total=total)
    return outcome["result"]
