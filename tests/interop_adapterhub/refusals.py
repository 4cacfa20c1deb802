"""What AdapterHub can save and this format cannot hold, or must not believe, with the code of the refusal."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from adapters import (
    AdapterModelInterface,
    AdapterPlusConfig,
    BnConfig,
    CompacterConfig,
    ConfigUnion,
    DoubleSeqBnInvConfig,
    Fuse,
    LoRAConfig,
    PrefixTuningConfig,
    SeqBnConfig,
)

from compacter_core.errors import ErrorCode
from tests.interop_adapterhub.sources import Source

POST_NORM: Final[dict[str, Any]] = {
    "adapter_methods": ["bottleneck"],
    "model_embeddings": "embeddings",
    "model_layers": "encoder.layer",
    "layer_self_attn": "attention",
    "layer_cross_attn": None,
    "attn_k_proj": "self.key",
    "attn_q_proj": "self.query",
    "attn_v_proj": "self.value",
    "attn_o_proj": "output.dense",
    "layer_intermediate_proj": "intermediate.dense",
    "layer_output_proj": "output.dense",
}
"""An interface to BERT that adds no residual and no norm."""
POST_RESIDUALS: Final = {"layer_pre_self_attn": "attention.self.query", "layer_pre_ffn": "intermediate.dense"}
POST_NORMS: Final = {"layer_ln_1": "attention.output.LayerNorm", "layer_ln_2": "output.LayerNorm"}


def bottleneck(**options: Any) -> Any:
    """A dense adapter behind both sublayers."""
    return BnConfig(mh_adapter=True, output_adapter=True, reduction_factor=4, non_linearity="relu", **options)


@dataclass(frozen=True)
class Refusal:
    """A checkpoint that is refused.

    Args:
        options: makes the adapter's configuration.
        code: of the refusal.
        model_class: what the adapter is for.
        interface: of a model that AdapterHub does not know.
        edit: changes the saved directory.
    """

    options: Callable[[], Any]
    code: ErrorCode
    model_class: str = "BertForSequenceClassification"
    interface: dict[str, Any] = field(default_factory=dict)
    edit: Callable[[Source, Path], None] = lambda source, directory: None

    def save(self, folder: Path) -> tuple[Source, Path]:
        """The model, and the directory that the library saved, with pickles: some of these it cannot save otherwise."""
        interface = AdapterModelInterface(**self.interface) if self.interface else None
        source = Source(folder, self.model_class, "bert", interface=interface)
        directory = source.save(folder, self.options(), use_safetensors=False)
        self.edit(source, directory)
        return source, directory


def set_option(name: str, value: Any) -> Callable[[Source, Path], None]:
    """Writes an option into the saved configuration, as a version or an installation would that has it."""

    def edit(source: Source, directory: Path) -> None:
        path = directory / "adapter_config.json"
        data = json.loads(path.read_text())
        data["config"][name] = value
        path.write_text(json.dumps(data))

    return edit


def fuse(source: Source, directory: Path) -> None:
    """Saves a fusion with a second adapter beside the first one."""
    source.model.add_adapter("b", config=SeqBnConfig(reduction_factor=4))
    source.model.add_adapter_fusion(Fuse("a", "b"))
    source.model.save_adapter_fusion(str(directory), Fuse("a", "b"))


REFUSALS: Final[dict[str, Refusal]] = {
    "no base-model prefix: the shared rule is not saved": Refusal(
        lambda: CompacterConfig(phm_dim=2, reduction_factor=4), ErrorCode.E302, model_class="BertModel"
    ),
    "plugin with original_ln_before: every layer uses the last norm": Refusal(
        lambda: bottleneck(original_ln_before=True),
        ErrorCode.E503,
        interface=POST_NORM | POST_RESIDUALS | POST_NORMS,
    ),
    "plugin that reads r + h before the norm": Refusal(
        lambda: bottleneck(original_ln_before=True), ErrorCode.E502, interface=POST_NORM | POST_RESIDUALS
    ),
    "plugin that adds r twice": Refusal(
        lambda: bottleneck(original_ln_before=True, residual_before_ln=False),
        ErrorCode.E502,
        interface=POST_NORM | POST_RESIDUALS,
    ),
    "plugin, parallel without r": Refusal(lambda: bottleneck(is_parallel=True), ErrorCode.E502, interface=POST_NORM),
    "plugin that takes something else for r": Refusal(
        lambda: bottleneck(is_parallel=True),
        ErrorCode.E502,
        interface=POST_NORM | POST_RESIDUALS | {"layer_pre_ffn": "output.dense"},
    ),
    "plugin that adapts another linear": Refusal(
        bottleneck, ErrorCode.E502, interface=POST_NORM | {"layer_output_proj": "intermediate.dense"}
    ),
    "r is dropped": Refusal(lambda: bottleneck(original_ln_after=False), ErrorCode.E502),
    "r is dropped behind the norm": Refusal(
        lambda: bottleneck(original_ln_before=True, original_ln_after=False), ErrorCode.E502
    ),
    "r is dropped beside a parallel adapter": Refusal(
        lambda: bottleneck(is_parallel=True, original_ln_after=False), ErrorCode.E502
    ),
    "r is added twice": Refusal(lambda: bottleneck(original_ln_before=True, residual_before_ln=False), ErrorCode.E502),
    "r is added twice, with post_add": Refusal(
        lambda: bottleneck(original_ln_before=True, residual_before_ln="post_add"), ErrorCode.E502
    ),
    "invertible adapter": Refusal(lambda: DoubleSeqBnInvConfig(reduction_factor=4), ErrorCode.E502),
    "ln_before": Refusal(lambda: SeqBnConfig(reduction_factor=4, ln_before=True), ErrorCode.E502),
    "ln_after": Refusal(lambda: SeqBnConfig(reduction_factor=4, ln_after=True), ErrorCode.E502),
    "gating": Refusal(lambda: SeqBnConfig(reduction_factor=4, use_gating=True), ErrorCode.E502),
    "stochastic depth": Refusal(
        lambda: AdapterPlusConfig(reduction_factor=4, stochastic_depth=0.0),
        ErrorCode.E502,
        edit=set_option("stochastic_depth", 0.1),
    ),
    "union": Refusal(lambda: ConfigUnion(SeqBnConfig(reduction_factor=4), LoRAConfig(r=2)), ErrorCode.E502),
    "fusion": Refusal(lambda: SeqBnConfig(reduction_factor=4), ErrorCode.E502, edit=fuse),
    "LoRA": Refusal(lambda: LoRAConfig(r=2), ErrorCode.E502),
    "prefix tuning": Refusal(lambda: PrefixTuningConfig(prefix_length=2), ErrorCode.E502),
    "activation": Refusal(lambda: SeqBnConfig(reduction_factor=4, non_linearity="leakyrelu"), ErrorCode.E502),
    "option of a later version": Refusal(
        lambda: SeqBnConfig(reduction_factor=4), ErrorCode.E502, edit=set_option("new_option", 1)
    ),
}
