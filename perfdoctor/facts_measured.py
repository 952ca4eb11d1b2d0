"""What stands among the settings of a report and that nobody has chosen: it was measured."""

from __future__ import annotations

#: Of two runs of the same code these differ, so that no difference of them explains anything.
MEASURED = frozenset(
    {
        "arithmetic_per_position",
        "autograd_nodes",
        "batch_bytes_of_8_bits",
        "ddp_log",
        "embedding_fill_s",
        "embedding_part",
        "embedding_rows_touched",
        "embedding_sparse_alike",
        "embedding_tables",
        "fft_fast_length",
        "fft_length",
        "fft_padded_part",
        "fft_slower",
        "gradients_unused",
        "kept_graphs_per_step",
        "longest_of_positions",
        "loss_nodes",
        "loss_of_backward",
        "saved_unneeded",
        "steps_in_other_threads",
        "steps_per_iterator",
        "thrown_away_made_at",
        "thrown_away_module",
        "thrown_away_of_backward",
        "thrown_away_used_at",
        "tokens_of_positions",
    }
)
