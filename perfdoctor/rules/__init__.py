"""Rules: from the facts of a report to findings. To add one: a class, a line here, cases.

A rule never measures and never sees more than the report's JSON, so it judges a stored report
exactly as a fresh one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from perfdoctor.report import Finding
from perfdoctor.rules.facts import Facts, Missing

__all__ = ["BUILTIN", "Facts", "Missing", "Rule"]

#: The headings of a rule's docstring, in order; `perfdoctor explain` prints them.
HEADINGS = (
    "What it does",
    "Why it is slow",
    "Evidence and threshold",
    "What to change",
    "How the gain is predicted",
    "When not to",
)


class Rule(Protocol):
    """One known cause of slow training.

    Attributes:
        code: "PD101"; the first digit is the family. Never reused.
        name: stable, kebab-case, states the fault.
        needs: fact paths without which the rule cannot decide anything; the engine looks.
            What it needs only sometimes it asks for when it gets there, and `Missing` says so.
        verify_with: the experiment that tries the change, or None.
        cause: findings of one cause become one recommendation.
        thresholds: names and defaults; each has its source in the docstring.

    A rule that is only about some kinds of source has `sources`, a tuple of them ("log", "run",
    ...); the engine does not ask it about others. One that would be misled by a few records or
    samples has `rests_on`, a tuple of "records" and `utilisation.NAME`: the engine looks whether a
    log holds enough of them (`perfdoctor.rules.enough`).
    """

    code: ClassVar[str]
    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    verify_with: ClassVar[str | None]
    cause: ClassVar[str]
    thresholds: ClassVar[Mapping[str, float]]

    def evaluate(self, facts: Facts) -> Finding | None:
        """The finding, or None where there is nothing to say.

        Raises:
            Missing: a fact that turned out to be needed was not measured.
        """


#: Code → where the class is, and its first docstring line.
BUILTIN: dict[str, tuple[str, str]] = {
    "PD101": (
        "perfdoctor.rules.loading:SynchronousDataLoading",
        "Batches are made inside the training loop, which waits for every one of them.",
    ),
    "PD102": (
        "perfdoctor.rules.loading:TooFewWorkers",
        "The DataLoader's workers cannot keep up although cores are idle.",
    ),
    "PD103": (
        "perfdoctor.rules.workers:MoreWorkersThanCores",
        "More DataLoader workers than usable cores.",
    ),
    "PD104": (
        "perfdoctor.rules.workers:WorkersRestartedEachEpoch",
        "The DataLoader's workers are started anew in every epoch.",
    ),
    "PD105": (
        "perfdoctor.rules.prefetch:ShallowPrefetch",
        "Slow batches drain the queue although the workers are fast enough on average.",
    ),
    "PD106": (
        "perfdoctor.rules.log_loading:TrainingWaitsForData",
        "Training waits for data, and what is known of the loader does not tell why.",
    ),
    "PD107": (
        "perfdoctor.rules.run_loading:SlowSample",
        "Making samples takes most of the time for batches, mostly in one line of the dataset.",
    ),
    "PD108": (
        "perfdoctor.rules.run_storage:LoadingWaitsForStorage",
        "Making a batch is waiting for a disk or a network, not computing.",
    ),
    "PD109": (
        "perfdoctor.rules.run_loading:SlowCollate",
        "Putting samples together into a batch takes a large part of making it.",
    ),
    "PD110": (
        "perfdoctor.rules.run_waiting:BatchesMadeInLoop",
        "Batches come from the script's own code, while the model waits.",
    ),
    "PD111": (
        "perfdoctor.rules.run_shards:ShardStalls",
        "Now and then training waits long for data: a shard is opened while the loop stands still.",
    ),
    "PD112": (
        "perfdoctor.rules.run_waiting:IteratorRemade",
        "The DataLoader's iterator is made anew after a few steps.",
    ),
    "PD113": (
        "perfdoctor.rules.worker_processes:SlowWorkerStart",
        "Workers are started as new interpreters, which takes a visible part of the training.",
    ),
    "PD114": (
        "perfdoctor.rules.worker_processes:CpuQuotaIgnored",
        "Threads or workers are as many as the machine has cores, but a quota allows fewer.",
    ),
    "PD115": (
        "perfdoctor.rules.handover:InOrderBlocking",
        "Finished batches wait behind a slow one, since batches are handed over in order.",
    ),
    "PD116": (
        "perfdoctor.rules.sample_storage:SmallReads",
        "Samples are read in pieces too small for the disk.",
    ),
    "PD117": (
        "perfdoctor.rules.sample_storage:RandomAccess",
        "Reading samples in random order takes much longer than reading neighbours.",
    ),
    "PD118": (
        "perfdoctor.rules.handover:SlowHandover",
        "Handing batches from the workers to the training takes a visible part of making them.",
    ),
    "PD119": (
        "perfdoctor.rules.sample_storage:SamplesMadeAnew",
        "Samples that never change are made anew in every epoch, and would fit into memory.",
    ),
    "PD120": (
        "perfdoctor.rules.worker_processes:ThreadsInWorkers",
        "Each worker computes with several threads, and together they are more than the cores.",
    ),
    "PD121": (
        "perfdoctor.rules.worker_processes:SamplesDuplicatedByWorkers",
        "An IterableDataset gives every sample once from each worker.",
    ),
    "PD122": (
        "perfdoctor.rules.sample_storage:DatasetBeyondMemory",
        "The dataset does not fit into memory, so that each epoch reads it from the disk again.",
    ),
    "PD123": (
        "perfdoctor.rules.spinning:ThreadsSpinBesideWorkers",
        "Threads of torch that wait for work keep cores busy which the loader's workers need.",
    ),
    "PD124": (
        "perfdoctor.rules.sampler:SlowSampler",
        "A sampler of the script's own takes a visible part of the training.",
    ),
    "PD125": (
        "perfdoctor.rules.sharding:ShardedAfterTheWork",
        "Every worker makes all samples and then drops those of the other workers.",
    ),
    "PD126": (
        "perfdoctor.rules.whole_draws:WholeOrderForFew",
        "All samples are put into a random order, or listed, to draw a batch of them.",
    ),
    "PD127": (
        "perfdoctor.rules.weighted_draws:AllWeightsForFew",
        "A few are drawn by weights, and the weights of all are gone through for it each time.",
    ),
    "PD201": (
        "perfdoctor.rules.transfer:PageableHostCopies",
        "Batches are copied to the GPU from pageable memory.",
    ),
    "PD202": (
        "perfdoctor.rules.precision:MixedPrecisionOff",
        "The model computes in float32 where this device is faster in 16 bits.",
    ),
    "PD203": (
        "perfdoctor.rules.precision:Tf32Off",
        "Matrix products run in full float32 on a GPU that has TF32.",
    ),
    "PD204": (
        "perfdoctor.rules.compute:CpuThreadsBelowUsableCores",
        "torch computes with fewer threads than there are usable cores.",
    ),
    "PD205": (
        "perfdoctor.rules.compute:SmallBatch",
        "The batch is so small that the fixed cost of a step weighs.",
    ),
    "PD206": (
        "perfdoctor.rules.gpu_use:GpuUnderused",
        "The GPU is idle for a large part of the run.",
    ),
    "PD207": (
        "perfdoctor.rules.gpu_use:GpuSaturated",
        "The GPU is busy nearly all the time: only the model's own work can become faster.",
    ),
    "PD208": (
        "perfdoctor.rules.compiling:ModelNotCompiled",
        "The model runs operation by operation, where compiling it could help.",
    ),
    "PD209": (
        "perfdoctor.rules.run_compute:AnomalyDetectionOn",
        "Autograd's anomaly detection is on.",
    ),
    "PD210": (
        "perfdoctor.rules.run_compute:DeterministicAlgorithms",
        "Deterministic algorithms are asked for on a GPU.",
    ),
    "PD211": (
        "perfdoctor.rules.run_compute:CudnnBenchmarkOff",
        "cuDNN may not try which of its convolutions is fastest.",
    ),
    "PD212": (
        "perfdoctor.rules.run_loss:SlowLoss",
        "The script's own loss takes a large part of the training.",
    ),
    "PD213": (
        "perfdoctor.rules.run_code:GraphBuiltEachStep",
        "The graph or its adjacency is built anew in every step.",
    ),
    "PD214": (
        "perfdoctor.rules.run_code:PythonInTheLoop",
        "Python of the training loop itself takes a visible part of the training.",
    ),
    "PD215": (
        "perfdoctor.rules.run_code:CollectsEachStep",
        "Memory is collected by hand so often that it takes a visible part of the training.",
    ),
    "PD216": (
        "perfdoctor.rules.run_operations:ManyTinyOperations",
        "The model is made of very many operations, each too small to keep the device busy.",
    ),
    "PD217": (
        "perfdoctor.rules.copies:ExposedHostCopies",
        "Copying batches to the GPU takes a visible part of each step, though from pinned memory.",
    ),
    "PD218": (
        "perfdoctor.rules.copies:SlowHostCopies",
        "Batches are copied to the GPU at a fraction of the speed that this machine reaches.",
    ),
    "PD219": (
        "perfdoctor.rules.copies:FatBatches",
        "Batches hold 32-bit numbers for what 8 bits would hold, and are copied to the GPU.",
    ),
    "PD220": (
        "perfdoctor.rules.copies:ManySmallCopies",
        "Each step copies dozens of tensors to the GPU.",
    ),
    "PD221": (
        "perfdoctor.rules.synchronising:ImplicitSynchronisation",
        "The CPU waits for the GPU within the step, which then has nothing to do next.",
    ),
    "PD222": (
        "perfdoctor.rules.layout:ChannelsLastOff",
        "Convolutions run faster here with channels last, and the model has them first.",
    ),
    "PD223": (
        "perfdoctor.rules.layout:MisalignedDimensions",
        "Matrix products in 16 bits have sides that 8 does not divide.",
    ),
    "PD224": (
        "perfdoctor.rules.roofline:LowArithmeticUse",
        "The arithmetic of the model reaches a small part of what this machine can do.",
    ),
    "PD225": (
        "perfdoctor.rules.roofline:MemoryBoundPointwise",
        "Much of the GPU's time goes into operations on single elements, which memory limits.",
    ),
    "PD226": (
        "perfdoctor.rules.attention:UnfusedAttention",
        "Attention is computed step by step, with its whole matrix of weights in memory.",
    ),
    "PD227": (
        "perfdoctor.rules.compiled:GraphBreaks",
        "The compiled model is cut into pieces by code that cannot be compiled.",
    ),
    "PD228": (
        "perfdoctor.rules.compiled:Recompilations",
        "The model is compiled again and again while it trains.",
    ),
    "PD229": (
        "perfdoctor.rules.compiling_time:CompilingNotPaidBack",
        "Compiling the model took longer than it can have saved in this run.",
    ),
    "PD230": (
        "perfdoctor.rules.pauses:CollectionPauses",
        "Python's garbage collector stops the training for a visible part of its time.",
    ),
    "PD231": (
        "perfdoctor.rules.synchronising:LaunchBlocking",
        "`CUDA_LAUNCH_BLOCKING=1` is set: each kernel is waited for.",
    ),
    "PD232": (
        "perfdoctor.rules.kept_graphs:GraphKeptForBackward",
        "Several backward passes a step go through the same graph again.",
    ),
    "PD233": (
        "perfdoctor.rules.unused_gradients:GradientsNobodyUses",
        "Some of what runs is not trained, but gradients are computed for it in every step.",
    ),
    "PD235": (
        "perfdoctor.rules.padding:MostlyPadding",
        "Much of what the model computes on is padding.",
    ),
    "PD236": (
        "perfdoctor.rules.thrown_away:GradientsThrownAway",
        "A backward pass goes through a model only for gradients that are cleared unused.",
    ),
    "PD237": (
        "perfdoctor.rules.fft_lengths:SlowTransformLength",
        "Convolutions by Fourier transforms have a length that transforms slowly.",
    ),
    "PD238": (
        "perfdoctor.rules.same_result:SameResultEachStep",
        "A function within the forward pass or the loss gives the same result in every step.",
    ),
    "PD239": (
        "perfdoctor.rules.parametrized:ParametrizationRecomputed",
        "A parametrized weight is computed again each time that the forward pass reads it.",
    ),
    "PD240": (
        "perfdoctor.rules.double_precision:DoublePrecision",
        "The model computes in float64 where float32 would do.",
    ),
    "PD241": (
        "perfdoctor.rules.graph_reaches_back:GraphReachesBack",
        "Each backward pass goes through the graphs of earlier steps again.",
    ),
    "PD242": (
        "perfdoctor.rules.hooks_pile_up:HooksPileUp",
        "Hooks are registered again and again, and all of them run in every step.",
    ),
    "PD243": (
        "perfdoctor.rules.made_models:ModelMadeAnew",
        "A whole model is constructed again and again within the steps of the training.",
    ),
    "PD244": (
        "perfdoctor.rules.whole_sorts:WholeSortForFew",
        "All there is is sorted, and only the first few of it are used.",
    ),
    "PD245": (
        "perfdoctor.rules.late_heads:HeadAfterUpsampling",
        "A convolution of one pixel works on the pixels of an upsampling that could come after it.",
    ),
    "PD246": (
        "perfdoctor.rules.zeroed_branches:ZeroedBranches",
        "Branches are computed whose results are multiplied by zero.",
    ),
    "PD247": (
        "perfdoctor.rules.acting:ActsOneByOne",
        "The model that acts is asked for one observation at a time.",
    ),
    "PD248": (
        "perfdoctor.rules.unused_rows:RowsNobodyUses",
        "Layers compute rows that nobody uses.",
    ),
    "PD249": (
        "perfdoctor.rules.fixed_parts:FixedPartRecomputed",
        "A part that is not trained computes the same for the same samples in every epoch.",
    ),
    "PD250": (
        "perfdoctor.rules.zero_products:ZerosMultiplied",
        "Dense matrix products with a constant that is nearly all zeros.",
    ),
    "PD301": (
        "perfdoctor.rules.memory:MemoryNearLimit",
        "Training uses nearly all memory of the device.",
    ),
    "PD302": (
        "perfdoctor.rules.memory:MemoryUnderused",
        "The GPU is neither busy nor full.",
    ),
    "PD303": (
        "perfdoctor.rules.host_memory:HostMemoryNearlyFull",
        "The host's memory is nearly full.",
    ),
    "PD304": (
        "perfdoctor.rules.host_memory:Swapping",
        "The host swaps memory out while the training runs.",
    ),
    "PD305": (
        "perfdoctor.rules.run_growth:MemoryGrows",
        "The process's memory grows with every step.",
    ),
    "PD306": (
        "perfdoctor.rules.allocator:AllocatorRetries",
        "The CUDA allocator ran out of memory, emptied its cache and tried again.",
    ),
    "PD307": (
        "perfdoctor.rules.allocator:FragmentedMemory",
        "The CUDA allocator holds far more memory than tensors use.",
    ),
    "PD308": (
        "perfdoctor.rules.memory_for_time:NeedlessCheckpointing",
        "Activations are computed twice to save memory that is not short.",
    ),
    "PD309": (
        "perfdoctor.rules.memory_for_time:WorkersMemoryGrows",
        "The memory of the workers grows as they read the dataset.",
    ),
    "PD401": (
        "perfdoctor.rules.optimizer:OptimizerNotFused",
        "The optimizer updates parameters one by one where it could update them together.",
    ),
    "PD402": (
        "perfdoctor.rules.search:ArchitectureStepTooFrequent",
        "The architecture is updated so often that it takes a large part of the training.",
    ),
    "PD403": (
        "perfdoctor.rules.search:SecondOrderArchitectureStep",
        "The architecture step differentiates through an unrolled weight update.",
    ),
    "PD404": (
        "perfdoctor.rules.run_optimizer:OptimizerInPython",
        "The optimizer is the script's own and updates parameters one by one in Python.",
    ),
    "PD405": (
        "perfdoctor.rules.gradients:SlowGradientHandling",
        "Clearing, clipping or measuring gradients takes a visible part of the training.",
    ),
    "PD406": (
        "perfdoctor.rules.gradients:SearchWithoutWarmUp",
        "The architecture is searched from the first epoch on.",
    ),
    "PD407": (
        "perfdoctor.rules.decompositions:DecomposesEachStep",
        "The optimizer decomposes or inverts matrices in every step.",
    ),
    "PD408": (
        "perfdoctor.rules.dense_tables:DenseEmbeddingUpdates",
        "Each step updates all rows of large embedding tables, of which a batch touches few.",
    ),
    "PD409": (
        "perfdoctor.rules.one_by_one:GradientsTakenOneByOne",
        "Gradients of one output are taken in several calls that all go through its graph.",
    ),
    "PD410": (
        "perfdoctor.rules.search_gradients:WeightGradientsInSearch",
        "Each step of the architecture also computes gradients of all weights, which are cleared.",
    ),
    "PD411": (
        "perfdoctor.rules.sample_gradients:GradientsSampleBySample",
        "Gradients of single samples are taken in a loop through the graph of the whole batch.",
    ),
    "PD501": (
        "perfdoctor.rules.frequency:ValidationTooFrequent",
        "Validation takes a large part of the run.",
    ),
    "PD502": (
        "perfdoctor.rules.frequency:CheckpointTooFrequent",
        "Saving checkpoints takes a visible part of the run.",
    ),
    "PD503": (
        "perfdoctor.rules.frequency:LoggingTooFrequent",
        "Logging, metrics or figures take a visible part of the run.",
    ),
    "PD504": (
        "perfdoctor.rules.past_best:TrainedPastBest",
        "A large part of the run came after its best epoch.",
    ),
    "PD505": (
        "perfdoctor.rules.run_reporting:MetricsTooFrequent",
        "Metrics are computed so often that they take a visible part of the training.",
    ),
    "PD506": (
        "perfdoctor.rules.run_reporting:FiguresTooFrequent",
        "Figures and images are drawn so often that it takes a visible part of the training.",
    ),
    "PD507": (
        "perfdoctor.rules.past_target:TrainedPastTarget",
        "The training went on after the value that it was meant to reach.",
    ),
    "PD508": (
        "perfdoctor.rules.slow_validation:SlowValidationCode",
        "Validation spends its time in a loop of the script's own.",
    ),
    "PD509": (
        "perfdoctor.rules.start_up:SlowStartUp",
        "The script's own code prepares for long before the first step.",
    ),
    "PD510": (
        "perfdoctor.rules.saved_views:ViewsSavedWhole",
        "Checkpoints hold large tensors of which only small parts are saved.",
    ),
    "PD511": (
        "perfdoctor.rules.validation_calls:PrefixComputedAgain",
        "For each token that is generated the model computes the whole sequence made so far again.",
    ),
    "PD512": (
        "perfdoctor.rules.validation_calls:ValidatedOneByOne",
        "Validation calls the model on one sample at a time.",
    ),
    "PD513": (
        "perfdoctor.rules.saved_data:DataInCheckpoints",
        "Checkpoints hold data, which is the same in each of them.",
    ),
    "PD514": (
        "perfdoctor.rules.small_validation_batches:SmallValidationBatches",
        "Validation goes in batches that are far smaller than the training's.",
    ),
    "PD515": (
        "perfdoctor.rules.kept_outputs:WholeOutputsKept",
        "Validation joins the model's whole outputs, batch by batch, for its metrics.",
    ),
    "PD601": (
        "perfdoctor.rules.uneven_ranks:StragglerRank",
        "One rank is slower than the others, which wait for it in every step.",
    ),
    "PD602": (
        "perfdoctor.rules.ranks:ExposedCommunication",
        "Sharing gradients takes a large part of each step, and nothing hides it.",
    ),
    "PD603": (
        "perfdoctor.rules.ranks:MissingNoSync",
        "Gradients are shared in every backward pass although they are accumulated over several.",
    ),
    "PD604": (
        "perfdoctor.rules.ranks:UnusedParametersSearched",
        "DDP looks for unused parameters in every step, and there are none.",
    ),
    "PD605": (
        "perfdoctor.rules.ranks:DataParallel",
        "One process drives several GPUs through nn.DataParallel.",
    ),
    "PD606": (
        "perfdoctor.rules.uneven_ranks:RankWorksAlone",
        "Between the steps one rank validates, saves or reports, and all others wait.",
    ),
    "PD701": (
        "perfdoctor.rules.slowdown:ThroughputDrops",
        "The throughput falls during the run.",
    ),
    "PD702": (
        "perfdoctor.rules.slowdown:EpochTimeGrows",
        "Epochs take longer and longer.",
    ),
    "PD703": (
        "perfdoctor.rules.irregular:PeriodicStalls",
        "Training stalls at regular distances.",
    ),
    "PD704": (
        "perfdoctor.rules.irregular:SlowTail",
        "A few steps take much longer than the others, with no regularity.",
    ),
    "PD705": (
        "perfdoctor.rules.accounting:UnexplainedGaps",
        "A large part of the run is explained by nothing in the log.",
    ),
    "PD706": (
        "perfdoctor.rules.accounting:RestartedRun",
        "The run was restarted, and steps were done twice.",
    ),
    "PD707": (
        "perfdoctor.rules.accounting:LongWarmUp",
        "Starting takes a visible part of the run.",
    ),
    "PD901": (
        "perfdoctor.rules.measurement:NoisyMeasurement",
        "Something else used the machine while this was measured.",
    ),
    "PD902": (
        "perfdoctor.rules.unsteady_machine:DeviceThrottled",
        "The GPU lowered its clock while it was busy: it is too hot, or limited in power.",
    ),
    "PD903": (
        "perfdoctor.rules.unsteady_machine:ColdCacheMeasured",
        "The first part of the measurement read the dataset from the disk, the rest from memory.",
    ),
}
