"""An implementation that prints wherever it can while it works."""

import os
import subprocess
import sys

from compacter_core.conformance.implementation import Answer, Capabilities, Done, Rejected, Request, Skipped
from compacter_core.conformance.words import ConformanceClass

print("imported")


class Talkative:
    def describe(self) -> Capabilities:
        print("describing")
        return Capabilities(name="talkative", version="1", claims={ConformanceClass.READER: ()})

    def run(self, request: Request) -> Answer:
        print("working on", request.case)
        sys.__stdout__.write("through the original stream\n")  # type: ignore[union-attr]
        os.write(1, b"through the descriptor\n")
        subprocess.run([sys.executable, "-c", "print('through a child')"], check=True)
        match request.case:
            case "count/raise":
                raise ValueError("no idea")
            case "count/reject":
                return Rejected("E207")
            case "count/skip":
                return Skipped("not today")
            case "count/exit":
                sys.exit(9)
        return Done({"parameters": 3})


def create() -> Talkative:
    return Talkative()


def create_nothing() -> int:
    return 3


NUMBER = 3
