"""`python -m examples.jax`: answers the conformance runner on standard input and output (CNF-14 to CNF-18)."""

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from mmap import ACCESS_READ, mmap
from os import SEEK_END
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load, save

from examples.jax.adapter import Tensors, delta, gradients, sublayer
from examples.jax.backbone import match
from examples.jax.config import Config, read_config
from examples.jax.container import parse
from examples.jax.names import count_parameters
from examples.jax.profile import check_profile
from examples.jax.reader import AdapterFile, read_adapter
from examples.jax.rejection import Rejection

Answer = dict[str, Any]
Message = Mapping[str, Any]

TYPES = ["F32", "F64"]
CAPABILITIES: Answer = {
    "implementation": {"name": "jax", "version": jax.__version__},
    "claims": {"R": [], "F": TYPES, "G": TYPES, "P": TYPES},
    "accumulate": {name: name for name in TYPES},
}


class Server:
    """Answers requests whose files are in `scratch`."""

    def __init__(self) -> None:
        self._scratch = Path()
        self._operations: Mapping[str, Callable[[Message, Path], Answer]] = {
            "read": self._read,
            "count": self._count,
            "match": self._match,
            "forward": self._forward,
            "gradient": self._gradient,
            "sublayer": self._sublayer,
        }

    def answer(self, message: Message) -> Answer:
        """The answer to one message, without its number."""
        if message["cmd"] == "start":
            self._scratch = Path(message["scratch"])
            return {"ok": CAPABILITIES}
        if message["cmd"] == "stop":
            return {"ok": {}}
        operation = self._operations.get(message["op"])
        if operation is None:
            return {"skipped": {"reason": f"{message['op']} is not offered"}}
        try:
            return {"ok": operation(message["args"], self._scratch / message["out"])}
        except Rejection as rejection:
            return {"rejected": {"code": rejection.code}}

    def _bytes(self, name: str) -> bytes:
        return (self._scratch / name).read_bytes()

    def _read_adapter(self, name: str) -> AdapterFile:
        """Mapped, not read: what a hostile header refers to need never be in memory."""
        with (self._scratch / name).open("rb") as stream:
            empty = not stream.seek(0, SEEK_END)
            return read_adapter(b"" if empty else mmap(stream.fileno(), 0, access=ACCESS_READ))

    def _adapter(self, args: Message) -> tuple[AdapterFile, dict[str, jax.Array]]:
        adapter = self._read_adapter(args["adapter"])
        return adapter, {name: jnp.asarray(array) for name, array in adapter.tensors.items()}

    def _inputs(self, args: Message) -> dict[str, jax.Array]:
        return {name: jnp.asarray(array) for name, array in load(self._bytes(args["inputs"])).items()}

    def _read(self, args: Message, _: Path) -> Answer:
        adapter = self._read_adapter(args["adapter"])
        if "profile" in args:
            check_profile(adapter.config, self._bytes(args["profile"]))
        return adapter.summary()

    def _count(self, args: Message, _: Path) -> Answer:
        return {"parameters": count_parameters(read_config(args["config"]))}

    def _match(self, args: Message, _: Path) -> Answer:
        weights = parse(self._bytes(args["weights"]))
        arrays = {name: weights.array(name) for name in weights.entries}
        match(self._read_adapter(args["adapter"]), args["backbone"], arrays)
        return {}

    def _forward(self, args: Message, out: Path) -> Answer:
        def compute(config: Config, tensors: Tensors, values: Tensors) -> dict[str, jax.Array]:
            added = delta(config, tensors, config.site(args["site"]), values["x"])
            results = {"delta": added, "y": values["skip"] + added} if "y" in args["outputs"] else {"delta": added}
            return {name: results[name] for name in args["outputs"]}

        return self._compute(compute, args, out)

    def _gradient(self, args: Message, out: Path) -> Answer:
        def compute(config: Config, tensors: Tensors, values: Tensors) -> dict[str, jax.Array]:
            return gradients(config, tensors, [config.site(site) for site in args["sites"]], values)

        return self._compute(compute, args, out)

    def _sublayer(self, args: Message, out: Path) -> Answer:
        def compute(config: Config, tensors: Tensors, values: Tensors) -> dict[str, jax.Array]:
            return {"result": sublayer(config, tensors, config.site(args["site"]), values)}

        return self._compute(compute, args, out)

    def _compute(
        self, function: Callable[[Config, Tensors, Tensors], dict[str, jax.Array]], args: Message, out: Path
    ) -> Answer:
        """One compiled program for each case: their shapes differ, so a program is dropped after use."""
        adapter, tensors = self._adapter(args)
        results = jax.jit(partial(function, adapter.config))(tensors, self._inputs(args))
        answer = _save(results, out)
        jax.clear_caches()  # type: ignore[no-untyped-call]  # jax leaves it untyped
        return answer


def _save(tensors: Mapping[str, jax.Array], out: Path) -> Answer:
    out.write_bytes(save({name: np.asarray(tensor) for name, tensor in tensors.items()}))
    return {}


def main() -> None:
    """Answers until the runner says stop or closes the pipe."""
    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]  # jax leaves it untyped
    server = Server()
    for line in sys.stdin:
        message = json.loads(line)
        try:
            answer = server.answer(message)
        except Exception as error:
            answer = {"error": {"message": f"{type(error).__name__}: {error}"}}
        print(json.dumps({"seq": message["seq"], **answer}), flush=True)
        if message["cmd"] == "stop":
            break


if __name__ == "__main__":
    main()
