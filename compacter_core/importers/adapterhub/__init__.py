"""AdapterHub's `adapters` library (1.x and its predecessor adapter-transformers): its directories in, and out again.

A directory has `adapter_config.json` with the weights beside it, and perhaps a head with a configuration of its own.
What its options compute was measured on version 1.3.0: with r the residual stream, h the sublayer's output behind the
dropout, N the norm of a post-norm model (else the identity) and D the bottleneck,

    Compacter, double_seq_bn   N(r + h + D(h))
    Compacter++, seq_bn        N(r + h + D(N(r + h)))
    par_bn                     N(r + h + D(r))
    AdapterPlus                N(r + h) + D(N(r + h))

Two losses of that library are detected. A model without a base-model prefix (BertModel, T5ForConditionalGeneration) is
saved without its shared rule (E302). In models that it reaches through an `AdapterModelInterface`, an adapter with
`original_ln_before` is computed with the norm of the last layer, in every layer (E503).
"""

from compacter_core.importers.adapterhub.read import from_adapterhub
from compacter_core.importers.adapterhub.write import save_adapterhub

__all__ = ["from_adapterhub", "save_adapterhub"]
