"""Settings of a training, as people call them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfdoctor.facts_measured import MEASURED
from perfdoctor.render.text import clean, shorten

#: Heading of a table column, or name in a sentence, of a setting.
SETTINGS = {
    "batch_size": "batch size",
    "num_workers": "workers",
    "prefetch_factor": "prefetch",
    "pin_memory": "pinned memory",
    "persistent_workers": "persistent workers",
    "channels_last": "channels last",
    "optimizer_foreach": "foreach",
    "optimizer_fused": "fused",
    "arch_backwards": "computations of gradients for an architecture step",
    "arch_every": "architecture step every",
    "arch_order": "architecture order",
}
#: The same of what an observed script uses.
_USED = {
    "acting_s": "seconds that the model made data",
    "acts_for_data": "data made by the model",
    "allocator_settings": "PYTORCH_CUDA_ALLOC_CONF",
    "alone_at": "called on one sample at",
    "alone_batch": "samples in a batch of that module's training",
    "alone_calls": "calls in a row on one sample",
    "alone_generates": "generates for one sample",
    "alone_in": "called on one sample in",
    "alone_of_calls": "calls of validation that are on one sample",
    "alone_of_validation": "validation in calls on one sample",
    "alone_s": "seconds of a call on one sample",
    "alone_size": "size of that sample beside the training's",
    "anomaly_detection": "anomaly detection",
    "arithmetic_per_position": "arithmetic for each position",
    "autograd_nodes": "autograd nodes a step",
    "autograd_profiler": "autograd profiler",
    "batch_sampler": "batch sampler",
    "cudnn_benchmark": "cuDNN benchmark",
    "data_parallel": "DataParallel",
    "default_dtype": "torch's default precision",
    "dataset_size": "samples in the data set",
    "ddp": "DistributedDataParallel",
    "drop_last": "last batch dropped",
    "embedding_part": "numbers in embedding tables",
    "embedding_rows_touched": "rows of them that a batch touches",
    "embedding_sparse_alike": "sparse gradients do the same",
    "embedding_tables": "embedding tables",
    "differentiates_gradients": "gradients of gradients",
    "embedding_fill_s": "seconds for zeros in their gradients",
    "fed_back": "calls of a step go on from each other's output",
    "fft_fast_length": "next fast length of transforms",
    "fft_length": "length of Fourier transforms",
    "fft_padded_part": "Fourier transforms whose length is free",
    "fft_slower": "times as long as with the next fast length",
    "fsdp": "FSDP",
    "gradient_checkpointing": "gradient checkpointing",
    "gradients_at_rate_0": "gradients whose learning rate is 0",
    "gradients_unused": "gradients that no optimizer uses",
    "gradients_unused_alone_of_backward": "backward pass for these alone",
    "gradients_unused_beside_of_backward": "backward pass for these and others",
    "gradients_unused_called_at": "the module of these called at",
    "gradients_unused_module": "module of these",
    "graph_nodes_grown_per_step": "autograd nodes of earlier steps more each step",
    "graph_nodes_own": "autograd nodes of a step's own",
    "graph_steps_back": "steps after which a carried state begins anew",
    "h2d_pinned": "batches copied from pinned memory",
    "hooks_alike": "hooks of one function on one module",
    "hooks_at_first": "hooks at first",
    "hooks_at_last": "hooks at last",
    "hooks_function": "function of these hooks",
    "hooks_rises": "times that hooks became more",
    "hooks_stages": "stages of these hooks",
    "hooks_where": "these hooks registered at",
    "kept_graphs_per_step": "graphs kept for backward a step",
    "fixed_part_gives_bytes": "bytes a sample that this part gives",
    "fixed_part_module": "part that is not trained",
    "fixed_part_repeats": "samples that it is given again",
    "fixed_part_s": "seconds a step in a part that is not trained",
    "late_head_backward": "times their forward that their backward takes",
    "late_head_gives": "channels that they give",
    "late_head_left": "of their time before the upsampling",
    "late_head_s": "seconds a step for convolutions of one pixel after an upsampling",
    "late_head_takes": "channels that they take",
    "late_head_times": "times as many pixels after the upsampling",
    "launch_blocking": "CUDA_LAUNCH_BLOCKING",
    "loader_kind": "kind of data set",
    "loss_nodes": "autograd nodes of the loss a step",
    "longest_of_positions": "longest row of the positions of a batch",
    "loss_of_backward": "backward pass of the loss",
    "matmul_precision": "float32 matrix products",
    "micro_batch_beside_left": "left of what is done beside layers, on one batch",
    "micro_batch_calls": "batches whose gradients are accumulated",
    "micro_batch_left": "left of a layer on one batch",
    "micro_batch_of_layers": "operations of these with weights",
    "micro_batch_of_views": "operations of these that are views",
    "micro_batch_operations": "operations of these",
    "micro_batch_samples": "rows of a layer in these",
    "micro_batch_times_beside": "times an activation that a layer takes there",
    "misaligned_share": "weights whose sides 8 does not divide",
    "multiplied_in_convolutions": "multiplications of a step in convolutions",
    "multiplied_in_products": "multiplications of a step in matrix products",
    "multiplied_in_recurrent_layers": "multiplications of a step in recurrent layers",
    "non_blocking": "copies that are not waited for",
    "omp_num_threads": "OMP_NUM_THREADS",
    "one_by_one_at": "gradients taken one by one at",
    "one_by_one_calls": "calls a step that take gradients one by one",
    "one_by_one_created": "of what goes in one call, with graphs of gradients",
    "one_by_one_in": "gradients taken one by one in",
    "one_by_one_least": "part of them that is left in one call at least",
    "one_by_one_left": "part of them that is left in one call",
    "one_by_one_outputs": "outputs with gradients taken one by one",
    "one_by_one_s": "seconds a step for gradients taken one by one",
    "openmp_waiting": "waiting of OpenMP threads",
    "optimizer_at_rate_0": "of the optimizer at learning rate 0",
    "optimizer_home": "optimizer from",
    "parametrized_by": "parametrized weight computed by",
    "parametrized_of_backward": "backward pass of weights computed again",
    "parametrized_of_forward": "forward pass for weights computed again",
    "parametrized_read_at": "parametrized weight read at",
    "parametrized_times": "times a parametrized weight is computed in a forward pass",
    "parametrized_weight": "parametrized weight computed most",
    "pieces_beside_left": "left of what is done beside these layers",
    "pieces_calls": "calls a step of a layer on pieces",
    "pieces_left": "left of the layer on all at once",
    "pieces_of_layers": "of these with weights",
    "pieces_of_views": "of these views",
    "pieces_operations": "operations of which there is one a piece",
    "pieces_samples": "samples of a piece",
    "pieces_times_beside": "times an activation that the layer takes",
    "plain_attention_heads": "heads that it computes one after the other",
    "plain_attention_layers": "layers of attention in parts",
    "plain_attention_left": "left of it when fused",
    "plain_attention_masked": "scores of it are masked",
    "plain_attention_s": "seconds a step for attention in parts",
    "plain_attention_tokens": "tokens that it looks at",
    "prefix_at": "called on all positions so far at",
    "prefix_calls": "calls in a row, each one position longer",
    "prefix_first": "positions at first",
    "prefix_in": "called on all positions so far in",
    "prefix_last": "positions at last",
    "prefix_least": "part of these calls left on one position at least",
    "prefix_left": "part of these calls left on one position",
    "prefix_of_calls": "calls of validation on all positions so far",
    "prefix_of_validation": "validation in calls on all positions so far",
    "saved_bytes": "bytes of a checkpoint",
    "saved_data": "saved bytes that are data",
    "saved_data_named": "data saved as",
    "saved_unneeded": "saved bytes that no tensor needs",
    "sample_gradients_at": "gradients of single elements taken at",
    "sample_gradients_calls": "calls a step for gradients of single elements",
    "sample_gradients_in": "gradients of single elements taken in",
    "sample_gradients_s": "seconds a step for gradients of single elements",
    "stacks_of_forward": "forward pass for stacks written down",
    "start_method": "start of workers by",
    "stepped_beside_left": "left of what is done beside them",
    "stepped_layers": "recurrent layers called moment by moment",
    "stepped_left": "left of them in one call",
    "stepped_moments": "moments of their sequences",
    "stepped_operations": "operations of which there is one a moment",
    "stepped_s": "seconds a step for these layers",
    "steps_in_other_threads": "steps in other threads",
    "tensors": "tensors of parameters",
    "threads": "CPU threads",
    "tokens_of_positions": "positions of a batch that hold tokens",
    "thrown_away_of_backward": "backward pass that is thrown away",
    "thrown_away_module": "gradients thrown away of",
    "thrown_away_made_at": "its output made at",
    "thrown_away_used_at": "its output used at",
    "unused_rows": "rows of which some are not used",
    "unused_rows_ignored": "left out by targets or factors",
    "unused_rows_part": "rows that are not used",
    "unused_rows_s": "seconds a step for rows that are not used",
    "validation_batch_size": "batch size of validation",
    "validation_batches": "batches of a validation",
    "validation_call_part": "input of a call of validation beside the training's",
    "validation_seen_s": "seconds of a validation whose calls were seen",
    "validation_waits_s": "seconds that validation waited for batches",
    "zero_products_choose": "of these, one number of each row is 1",
    "zero_products_goes_s": "seconds a step for products with zeros",
    "zero_products_inner": "columns of the matrix that is nearly all zeros",
    "zero_products_making_s": "seconds a step for making it sparse",
    "zero_products_rows": "rows of the matrix that is nearly all zeros",
    "zero_products_zeros": "zeros in it",
    "zeroed_branches": "branches side by side that are multiplied by zeros",
    "zeroed_left": "left of these where zeros are left out",
    "zeroed_of_branches": "zeros among what these are multiplied by",
    "zeroed_part": "multiplications in branches that are multiplied by zeros",
    "world_size": "ranks",
}
#: Settings that are for programs: what they say stands elsewhere, or nobody chose it.
_UNSAID = MEASURED | {
    "device",
    "loader_kind",
    "seed",
    "tensors",
    "misaligned_share",
    "openmp_waiting",
    "optimizer_home",
    "start_method",
    "collate",
    "dataset",
    "dataset_in_memory",
    "epoch_batches",
    "convolutions",
    "drop_last",
}
_KNOWN_SETTINGS = {*SETTINGS, "precision", "compile", "dataset_size", "threads", *_UNSAID}
#: Of a log's other settings, so many are shown.
_OTHER_SETTINGS = 6
_VALUE_LENGTH = 40


def configuration(settings: Mapping[str, Any]) -> str:
    """The settings as words; without those that are off or unset, and the device."""
    return ", ".join(words for key, value in settings.items() if (words := _setting(key, value)))


def main_settings(settings: Mapping[str, Any]) -> str:
    """Like `configuration`, for a log that prints all it was started with: the first of the rest.

    Settings that perfdoctor knows come first.
    """
    mine = {key: value for key, value in settings.items() if key in _KNOWN_SETTINGS}
    rest = {key: value for key, value in settings.items() if key not in _KNOWN_SETTINGS}
    shown = dict(list(rest.items())[:_OTHER_SETTINGS])
    said = configuration(mine | shown)
    more = len(rest) - len(shown)
    return f"{said}, and {more} more" if more else said


def setting_name(key: str) -> str:
    """A setting as people call it."""
    return SETTINGS.get(key) or _USED.get(key) or clean(key)


def _setting(key: str, value: Any) -> str | None:
    name = setting_name(key)
    match key, value:
        case "num_workers", 0:
            return "no workers (the training process loads)"
        case "num_workers", 1:
            return "1 worker"
        case "num_workers", _:
            return f"{option(value)} workers"
        case "compile", "off" | None | False:
            return "not compiled"
        case "compile", _:
            return "compiled" if value is True else f"compiled ({option(value)})"
        case "precision", _:
            return option(value)
        case "dataset_size", int():
            return f"{value:,} samples"
        case "parameters", int():
            return f"{value:,} parameters"
        case "world_size", int():
            return f"{value:,} ranks"
        case "matmul_precision", "highest":  # as torch has it by itself
            return None
        case "threads", int():
            return f"{value} CPU thread{'s' if value != 1 else ''}"
        case _, _ if key in _UNSAID or value is None or value is False:
            return None
        case _, True:
            return name
    return f"{name} {option(value)}"


def option(value: Any) -> str:
    """The value of a setting."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shorten(clean(value), _VALUE_LENGTH)
