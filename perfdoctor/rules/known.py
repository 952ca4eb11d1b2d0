"""What the page of rules tells besides the rules: causes not evaluated yet, and common advice."""

from __future__ import annotations

#: A known cause, and what would have to be measured for a rule to decide about it.
NOT_EVALUATED: tuple[tuple[str, str], ...] = (
    (
        "The thread that pins batches fights with the training loop for Python's lock",
        "processor time of that thread beside gaps on the GPU while a batch is ready",
    ),
    (
        "`cudnn.benchmark` is on with batches of many shapes, each of which is tried anew",
        "the shapes of the batches over a run",
    ),
    (
        "How much rounding up sizes that 8 does not divide would gain (PD223 only sees them)",
        "the same matrix products in both sizes, on a GPU",
    ),
    (
        "Tensors are made on the CPU and then moved, instead of on the GPU",
        "the devices of consecutive operators in a trace",
    ),
    (
        "A convolution has a bias that the normalisation behind it takes away again",
        "the order in which modules are called; what it gains is seldom more than noise",
    ),
    (
        "Communication of DDP overlaps badly with the backward pass: bucket size, static graph",
        "the times that DDP's own logger keeps for each bucket",
    ),
    (
        "A profiler was left on",
        "whether it is on for the whole run and not for the steps of a schedule",
    ),
    (
        "How fast loading would be with a part of the dataset in the page cache",
        "loading with caches of two sizes; PD122 only compares sizes",
    ),
    (
        "Fragmentation that grows over a run",
        "the allocator's counters over time; PD307 sees their peaks",
    ),
    (
        "The arithmetic use of a script that is observed, not benchmarked",
        "counting the floating-point operations of its model, which would disturb it",
    ),
    (
        "A wider or narrower model for the memory that is there",
        "the model at several widths; batch sizes are measured (PD205, PD301), and models side by "
        "side with `perfdoctor bench --model A,B`",
    ),
)

#: What guides to slow trainings advise, and the rules that say so on evidence.
ADVICE: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("Mixed precision (AMP), bfloat16 or float16", ("PD202",), "measured on this device"),
    ("float32 and not NumPy's float64", ("PD240",), ""),
    ("TF32 for matrix products", ("PD203",), ""),
    ("More workers, as many as cores allow", ("PD101", "PD102", "PD103"), "pipeline model"),
    ("A larger `prefetch_factor`", ("PD105",), "pipeline model"),
    ("`pin_memory` and `non_blocking` copies", ("PD201", "PD217", "PD218"), ""),
    ("`persistent_workers`", ("PD104", "PD113"), ""),
    ("Scale or normalise data once instead of in `__getitem__`", ("PD107", "PD119"), "the line"),
    ("Keep the dataset in memory", ("PD107", "PD119"), "with its size"),
    ("Store data that is prepared at the start", ("PD509",), "its share of the run"),
    ("Pad to the longest of a batch, group samples of like length", ("PD235",), "what is padding"),
    ("Freeze what is not trained, as layers or a teacher", ("PD233",), "that part timed"),
    ("Detach a generator's output in the discriminator's step", ("PD236",), "that part timed"),
    ("Detach a state that is carried from step to step", ("PD241",), "how the graph grows"),
    ("Register hooks once, and remove those that are done with", ("PD242",), "counted"),
    ("Raw and cached dataset side by side", ("PD119",), "`bench --dataset A,B` compares them"),
    ("Move data from slow disks to fast ones", ("PD108", "PD116", "PD122"), ""),
    ("`torch.compile`, its modes, and when it pays back", ("PD208", "PD216", "PD229"), ""),
    ("Fused attention, all heads at once", ("PD226",), "timed both ways"),
    ("A recurrent layer on whole sequences, not moment by moment", ("PD216",), "timed both ways"),
    ("`cudnn.benchmark`", ("PD211",), ""),
    ("Settings of the CUDA allocator", ("PD306", "PD307"), ""),
    ("No `CUDA_LAUNCH_BLOCKING`", ("PD231",), ""),
    ("Channels last for convolutions", ("PD222",), "measured on this device"),
    ("Validate less often (every 20 epochs instead of every 10)", ("PD501",), "saving computed"),
    ("Compute metrics less often", ("PD505", "PD503"), "saving computed"),
    ("Draw figures and save embeddings less often", ("PD506",), "saving computed"),
    ("Save checkpoints less often", ("PD502",), "saving computed"),
    ("A larger batch where memory is left, with the learning rate", ("PD205", "PD302"), "curve"),
    ("A smaller batch, accumulated gradients", ("PD301",), "with both numbers"),
    ("Gradient checkpointing on where memory is short", ("PD301",), "with both numbers"),
    ("Gradient checkpointing off where it is not", ("PD308",), ""),
    ("DistributedDataParallel instead of DataParallel", ("PD605",), ""),
    ("Update the architecture every k steps", ("PD402",), "exact"),
    ("First-order approximation in architecture search", ("PD403",), "measured"),
    ("Warm-up epochs without architecture updates", ("PD406",), ""),
    ("One iterator of the validation data, not a new one each step", ("PD112",), ""),
    ("Draw a batch's indices, not an order of all", ("PD126",), "what the source draws"),
    ("Prioritised replay with a sum tree", ("PD127",), "what the source draws"),
    ("Make a model's copy once and copy values into it", ("PD243",), "its lines"),
    ("Take a window or some frames first, then read and transform", ("PD107",), "what is used"),
    ("Send each expert its own rows", ("PD246",), "timed both ways"),
    ("Ask a policy once for all environments", ("PD247", "PD110"), "what calls are given"),
    ("Vectorise non-maximum suppression and other metrics", ("PD508",), "the loops around a line"),
    ("`topk` in place of sorting all for the first few", ("PD244",), "what the source takes"),
    ("Cache graphs that do not change", ("PD213", "PD238"), "the line"),
    ("Compute masks, positions and anchors once", ("PD238",), "what goes in is the same"),
    ("`parametrize.cached()` where a parametrized weight is read in a loop", ("PD239",), "timed"),
    ("Fused optimizers", ("PD401", "PD404"), ""),
    ("Sparse gradients for large embedding tables", ("PD408",), "rows that a batch touches"),
    ("Gradients of several inputs in one call of `grad`", ("PD409",), "what one would pass"),
    ("Gradients of the architecture alone in its own step", ("PD410",), "timed"),
    ("Clean gradients and caches (`empty_cache`) now and then, not each step", ("PD215",), ""),
    ("Early stopping", ("PD504",), "time that it would have saved"),
    ("Stop at the target accuracy", ("PD507",), ""),
    ("Keep the use of memory below 80 %", ("PD301", "PD303"), ""),
    ("Look for swapping", ("PD304",), ""),
    ("GPU use below 80 %: loading; above 95 %: the model", ("PD206", "PD207"), ""),
    ("Throughput that falls during the run", ("PD701", "PD702"), "where it fell"),
    ("A smaller or a simpler model", (), "`bench --model A,B` compares them"),
    ("Inference latency", (), "every `bench` measures it"),
)
