"""A Ray driver without Ray: it answers each trial by the next word of its arguments.

fine, lost (and a late answer), failed, dies, overwrites, foreign, large, broken
"""

import os
import sys
import time

from orchestrator.events import ContainerStarted, LoopWaiting, body_of
from orchestrator.execution import frames
from orchestrator.execution.frames import Message
from orchestrator.types import Environment, Role
from tests.support import fakes


def main() -> None:
    """Serve."""
    source, out, words = sys.stdin.buffer, sys.stdout.buffer, sys.argv[1:]
    frames.receive(source)
    if words[0] == "refuses":
        frames.send(out, {"refused": "the token is another one: copy it"})
        return
    frames.send(out, {"up": True})
    late: list[Message] = []
    while (frame := frames.receive(source)) is not None:
        command = frame[0]
        call = command["call"]

        def say(message: Message, data: bytes = b"", call: int = call) -> None:
            frames.send(out, {**message, "call": call}, data)

        if command["do"] in ("take", "ready", "give_back"):
            environment = Environment(image_id="sha256:fake", hardware="stand-in", host="host1")
            say({"done": {"environment": frames.dump_environment(environment)}})
        elif command["do"] == "run":
            word = words.pop(0)
            if word == "dies":
                os._exit(1)
            answer(word, say, late)


def answer(word: str, say: object, late: list[Message]) -> None:
    """Answer one trial; what is late comes before the answer to the next one."""
    assert callable(say)
    for message in late:
        say(message)
    late.clear()
    started = ContainerStarted(experiment_id=0, role=Role.TRAINER, container_id="c1", deadline_s=1.0)
    say({"event": started.kind, "body": body_of(started)})
    say({"line": "step 1", "role": "trainer"})
    match word:
        case "lost":
            say({"lost": "its host is gone"})
            time.sleep(0.2)
            say({"done": frames.dump_trial(fakes.scored(0.001))})
        case "failed":
            say({"failed": "the engine died"})
        case "overwrites":
            say({"file": "train.py"}, b"other")
        case "climbs":
            say({"file": "../x.log"}, b"other")
        case "large":
            say({"file": "checkpoint.pt"}, bytes(2 << 20))
        case "foreign":
            waiting = LoopWaiting(reason="nothing")
            say({"event": waiting.kind, "body": body_of(waiting)})
        case "broken":
            say({"done": {"score": "good"}})
        case _:
            say({"file": "trainer.log"}, b"one ")
            say({"file": "trainer.log"}, b"two")
            say({"done": frames.dump_trial(fakes.scored(1.5))})


if __name__ == "__main__":
    main()
