"""The conformance kit: test vectors, and a runner that judges any implementation by them (specs, conformance).

The modules in the order in which a case meets them, which is the order to read them in:

words, case            the finite choices, and a case as data: what is asked, and what has to come back
suite                  cases and files in memory, checked against the manifest; `recipe` makes the files that are large,
                       `tensor_files` reads and writes those of tensors
selection, lists       which cases are run, and which of them are known to fail
materialise            a case on disk, in one type; `adapter_files` keeps the spelling of adapters
runner                 the loop over all of these; `progress` shows how far it is
implementation         what is asked: `describe` and `run`
subject                who is asked: an implementation in this process, found by `resolve`, or a `child`
child                  a program behind a pipe: `process` reads its lines, `memory` watches it, `protocol` is spoken
serve                  the other end of the pipe, for implementations in Python
judge                  the verdict on an answer: `values` compares JSON, `compare` tensors with their bounds, `draws`
                       with `statistics` random tensors, `onnx_evaluation` models
report                 all verdicts as data and text; `junit` and `diff` make other things of it, `printable` guards it

Beside this way:

validate               checks of a suite without an implementation: `findings`, `schemas`, `specification`,
                       `validate_tensors`
implementations/       our own implementations
exact/, generate/      exact arithmetic, and the generator of the suite with it
mutants, mutants_files the wrong implementations that the suite has to notice, made in mutation/
"""
