"""Class F, the forward pass, in F32 and F64, from the specification: NumPy, safetensors and nothing of this project."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

Array = NDArray[Any]
Tensors = dict[str, Array]

CLAIMS = {"F": ["F32", "F64"]}
ACCUMULATE = {"F32": "F32", "F64": "F64"}
# [FWD-14 to FWD-20]: an overflow inside an activation ends in the right limit.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu_new": lambda z: z / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    "gelu": lambda z: z / 2 * (1 + np.vectorize(math.erf, otypes=[z.dtype])(z / math.sqrt(2))),
    "relu": lambda z: np.maximum(z, 0),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "identity": lambda z: z,
}


def weight(projection: dict[str, Any], tensors: Tensors, site: str, side: str) -> Array:
    """Build the weight [in, out] of one projection [FWD-3 to FWD-10]."""
    own = f"site.{site}.{side}."
    values = f"shared.{side}." if projection.get("shared_W", False) else own
    rule = "shared." if projection.get("shared_phm_rule", False) else own
    kind = projection.get("kind", "lphm")
    factored = kind in ("low_rank", "lphm")
    w = tensors[values + "W_left"] @ tensors[values + "W_right"] if factored else tensors[values + "W"]
    if kind in ("dense", "low_rank"):
        return w
    if projection.get("factorized_phm_rule", False):
        a = tensors[rule + "phm_rule_left"] @ tensors[rule + "phm_rule_right"]
    else:
        a = tensors[rule + "phm_rule"]
    n, rows, columns = w.shape
    kronecker: Array = np.einsum("iab,ipq->apbq", a, w)  # [CNV-2], summed over i
    return kronecker.reshape(n * rows, n * columns)


def delta(config: dict[str, Any], tensors: Tensors, site: str, x: Array) -> Array:
    """Compute scaling * (act(x Wd + bd) Wu + bu) [FWD-1]; an absent bias adds nothing [FWD-11]."""
    projection, prefix = config["projection"], f"site.{site}."
    z = x @ weight(projection, tensors, site, "down")
    if config.get("bias_down", True):
        z = z + tensors[prefix + "down.b"]
    activation = ACTIVATIONS[config.get("non_linearity", "gelu_new")]
    result = activation(z) @ weight(projection, tensors, site, "up")
    if config.get("bias_up", True):
        result = result + tensors[prefix + "up.b"]
    scaling = config.get("scaling", 1.0)
    return result * (tensors[prefix + "scaling"] if isinstance(scaling, str) else scaling)


def forward(scratch: Path, args: dict[str, Any], out: str) -> None:
    """Answer one case: read adapter and inputs, write the tensors that are asked for."""
    with safe_open(scratch / args["adapter"], framework="numpy") as file:
        config = json.loads(file.metadata()["compacter.config"])
    inputs = load_file(scratch / args["inputs"])
    results = {"delta": delta(config, load_file(scratch / args["adapter"]), args["site"], inputs["x"])}
    if "y" in args["outputs"]:
        results["y"] = inputs["skip"] + results["delta"]  # [FWD-2]
    save_file({name: np.ascontiguousarray(results[name]) for name in args["outputs"]}, scratch / out)


def main() -> None:
    """Speak the protocol: one JSON object a line, a request and its answer in turn [CNF-14]."""
    scratch = Path()
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {"ok": {}}
        if request["cmd"] == "start":
            scratch = Path(request["scratch"])
            identity = {"name": "minimal", "version": "1"}
            answer = {"ok": {"implementation": identity, "claims": CLAIMS, "accumulate": ACCUMULATE}}
        elif request["cmd"] == "run" and request["op"] != "forward":
            answer = {"skipped": {"reason": "only forward is implemented"}}
        elif request["cmd"] == "run":
            try:
                with np.errstate(all="ignore"):
                    forward(scratch, request["args"], request["out"])
            except Exception as error:
                answer = {"error": {"message": f"{type(error).__name__}: {error}"}}
        print(json.dumps({"seq": request["seq"], **answer}), flush=True)
        if request["cmd"] == "stop":
            break


if __name__ == "__main__":
    main()
