"""What kind of work a function does, as a stage: by library, by what a line calls, by name.

Three kinds of evidence, from strong to weak. A library's module tells most; calls into C have no
frame and are known by the text of the line alone; the name of the user's own function is a hint,
used only where nothing else explains the time.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from perfdoctor.stages import DATA_LOADING

METRICS, LOGGING, CHECKPOINT = "metrics", "logging", "checkpoint"
COMMUNICATION, VALIDATION = "communication", "validation"
#: Not one of the fixed stages: the name that users of graph networks give it.
GRAPH_BUILD = "graph_build"


@dataclass(frozen=True)
class Work:
    """A stage and the reason to think so, in a few words."""

    stage: str
    reason: str


@dataclass(frozen=True)
class _Entry:
    """Functions of some modules; all of them where `functions` is empty."""

    modules: tuple[str, ...]
    work: Work
    functions: str = ""


def _entry(stage: str, reason: str, modules: str, functions: str = "") -> _Entry:
    return _Entry(tuple(modules.split()), Work(stage, reason), functions)


#: The first entry that fits counts, so a function's comes before its whole module's.
_LIBRARIES = (
    _entry(METRICS, "computes metrics", "sklearn.metrics torchmetrics evaluate ignite.metrics"),
    _entry(METRICS, "computes metrics", "torcheval seqeval sacrebleu rouge_score rouge bert_score"),
    _entry(METRICS, "computes metrics", "pycocotools pytorch_fid cleanfid nltk.translate jiwer"),
    _entry(
        METRICS, "computes metrics", "lpips pytorch_msssim skimage.metrics scipy.stats editdistance"
    ),
    _entry(METRICS, "computes metrics", "sklearn.manifold sklearn.cluster umap monai.metrics"),
    _entry(LOGGING, "draws a figure", "matplotlib seaborn plotly bokeh altair pylab mpl_toolkits"),
    _entry(LOGGING, "draws a figure", "torchvision.utils", r"save_image|make_grid|draw_"),
    _entry(LOGGING, "writes an image", "PIL imageio cv2", r"\bsave\b|imwrite|imsave|_save"),
    _entry(LOGGING, "plots a table", "pandas.plotting"),
    _entry(
        LOGGING, "logs to a tracker", "wandb mlflow comet_ml neptune clearml aim swanlab dvclive"
    ),
    _entry(
        LOGGING, "writes TensorBoard events", "tensorboard tensorboardX torch.utils.tensorboard"
    ),
    _entry(
        LOGGING, "writes log lines", "logging loguru structlog rich termcolor tabulate prettytable"
    ),
    # Its __iter__ only hands on what it is given: what is slow in there is its source.
    _entry(LOGGING, "redraws a progress bar", "tqdm", r"^(?!.*__(?:iter|next)__$)"),
    _entry(LOGGING, "logs", "lightning.pytorch.loggers lightning.fabric.loggers"),
    _entry(
        LOGGING, "logs", "lightning.pytorch.core.module lightning.core.module", r"\blog(?:_dict)?$"
    ),
    _entry(LOGGING, "redraws a progress bar", "lightning.pytorch.callbacks.progress progressbar"),
    _entry(LOGGING, "logs", "transformers.integrations.integration_utils"),
    _entry(LOGGING, "logs", "ignite.handlers.tensorboard_logger"),
    _entry(LOGGING, "logs", "transformers.trainer", r"\blog$"),
    _entry(LOGGING, "writes JSON", "json", r"\bdumps?$|iterencode|_iterencode"),
    _entry(LOGGING, "prints", "pprint"),
    _entry(LOGGING, "writes a table", "csv", r"write"),
    _entry(LOGGING, "writes a table", "pandas", r"\bto_(?:csv|json|excel|parquet|html|sql)$"),
    _entry(LOGGING, "makes a summary", "torchinfo torchsummary thop fvcore.nn"),
    _entry(CHECKPOINT, "saves a checkpoint", "torch.serialization", r"save|write"),
    _entry(CHECKPOINT, "saves a checkpoint", "torch.distributed.checkpoint orbax"),
    _entry(CHECKPOINT, "saves a checkpoint", "safetensors", r"save|serialize"),
    _entry(CHECKPOINT, "saves a checkpoint", "lightning.pytorch.callbacks.model_checkpoint"),
    _entry(CHECKPOINT, "saves a checkpoint", "transformers.trainer", r"\b_save|save_model"),
    _entry(CHECKPOINT, "saves a checkpoint", "transformers peft diffusers", r"\bsave_pretrained$"),
    _entry(CHECKPOINT, "saves a checkpoint", "accelerate.checkpointing joblib", r"save|dump"),
    _entry(CHECKPOINT, "saves a checkpoint", "dill cloudpickle", r"dump|save"),
    _entry(CHECKPOINT, "copies files", "shutil", r"copy|move"),
    _entry(CHECKPOINT, "renames a file", "pathlib", r"\.(?:replace|rename)$"),
    _entry(
        CHECKPOINT, "uploads files", "huggingface_hub boto3 botocore", r"upload|push|commit|put_"
    ),
    _entry(VALIDATION, "runs the validation", "lightning.pytorch.loops.evaluation_loop"),
    _entry(VALIDATION, "runs the validation", "transformers.trainer", r"\bevaluat|\bpredict"),
    _entry(
        COMMUNICATION, "talks to other ranks", "torch.distributed horovod deepspeed.comm mpi4py"
    ),
    _entry(GRAPH_BUILD, "builds a graph", "torch_cluster networkx pynndescent hnswlib"),
    _entry(GRAPH_BUILD, "builds a graph", "torch_geometric torch_geometric.nn", r"knn_|radius_"),
    _entry(GRAPH_BUILD, "builds a graph", "torch_geometric.nn.pool torch_geometric.utils"),
    _entry(GRAPH_BUILD, "builds a graph", "dgl", r"graph|knn|radius"),
    _entry(GRAPH_BUILD, "searches neighbours", "sklearn.neighbors scipy.spatial"),
    _entry(DATA_LOADING, "decodes or transforms images", "PIL cv2 imageio torchvision skimage"),
    _entry(
        DATA_LOADING, "decodes or transforms images", "albumentations kornia.augmentation imgaug"
    ),
    _entry(
        DATA_LOADING, "decodes media", "torchaudio librosa soundfile audioread decord av torchcodec"
    ),
    _entry(
        DATA_LOADING, "reads arrays from files", "h5py zarr netCDF4 tables xarray lmdb rasterio"
    ),
    _entry(DATA_LOADING, "reads arrays from files", "numpy", r"load|fromfile|genfromtxt|_read"),
    _entry(DATA_LOADING, "reads a table", "pandas.io polars", r""),
    _entry(DATA_LOADING, "reads a table", "pyarrow fastparquet", r"read|to_|scan"),
    _entry(
        DATA_LOADING, "reads a data set", "datasets webdataset streaming tensorflow_datasets tfds"
    ),
    _entry(DATA_LOADING, "reads a data set", "torch.utils.data torchdata ffcv nvidia.dali litdata"),
    _entry(
        DATA_LOADING, "tokenises text", "tokenizers sentencepiece tiktoken spacy nltk torchtext"
    ),
    _entry(DATA_LOADING, "tokenises text", "transformers.tokenization_utils_base"),
    _entry(DATA_LOADING, "tokenises text", "transformers.tokenization_utils_fast"),
    _entry(
        DATA_LOADING, "preprocesses samples", "sklearn.preprocessing sklearn.feature_extraction"
    ),
    _entry(DATA_LOADING, "preprocesses samples", "transformers.feature_extraction_utils"),
    _entry(
        DATA_LOADING,
        "fetches files",
        "fsspec s3fs gcsfs boto3 botocore requests urllib3 smart_open",
    ),
)

#: What a line calls, where that has no frame of its own. Names as in the source, ends included.
_CALLS = (
    (r"^print$|^(?:.*\.)?sys\.std(?:out|err)\.write$", Work(LOGGING, "prints")),
    (r"^pprint$|^(?:tqdm|pbar|bar|progress)\.write$", Work(LOGGING, "prints")),
    (r"\.flush$|^os\.fsync$", Work(LOGGING, "flushes a file")),
    (r"\.writerows?$", Work(LOGGING, "writes a table")),
    (r"^json\.dumps?$", Work(LOGGING, "writes JSON")),
    (r"\.writelines$|\.write(?:_text)?$", Work(LOGGING, "writes a file")),
    (r"^(?:torch\.)?save$|^(?:pickle|dill|joblib)\.dump$", Work(CHECKPOINT, "saves a file")),
    (r"^os\.(?:replace|rename)$", Work(CHECKPOINT, "renames a file")),
    (
        r"^np\.(?:load|fromfile|memmap)$|^numpy\.load$",
        Work(DATA_LOADING, "reads arrays from files"),
    ),
    (r"^pickle\.loads?$|\.read(?:_bytes|_text|lines?)?$", Work(DATA_LOADING, "reads a file")),
    (r"^dist\.|^torch\.distributed\.", Work(COMMUNICATION, "talks to other ranks")),
)

#: What `log_…` is a logarithm of, and no log.
_LOGARITHM_OF = (
    r"abs\w*|add_exp|amplitude|beta|cosh|density|densities|det\w*|factorial|gamma|lik\w*|magnitude|"
    r"marginal|matmul\w*|mean_exp|mel\w*|mag|normal\w*|odds|partition|pdf|pmf|posterior|power\w*|"
    r"prob\w*|psd|ratio\w*|scale|sigma\w*|sigmoid|sinkhorn|softmax|spec|spectr\w*|std|stft|sub_exp|"
    r"sum|sum_?exp|survival|unnorm\w*|var|variance\w*|z"
)
_NAMES = (
    (
        r"(?:^|_)(?:save|write|dump|store)_?(?:model|ckpt|checkpoint|weights|state|best|last)",
        CHECKPOINT,
    ),
    (r"checkpoint|(?:^|_)ckpt|^save$", CHECKPOINT),
    (
        r"(?:^|_)metrics?$|^(?:compute|calc\w*|update|get|eval\w*)_\w*(?:metric|score|acc|stat)",
        METRICS,
    ),
    (r"accuracy|(?:^|_)(?:f1|auc|auroc|bleu|rouge|iou|map|fid|psnr|ssim)(?:_|$)", METRICS),
    (r"(?:^|_)(?:confusion|precision_recall|average_precision)(?:_|$)", METRICS),
    (r"(?:^|_)(?:edit_dist\w*|levenshtein|wer|cer|meteor|ndcg|mrr|concordance)(?:_|$)", METRICS),
    (r"^(?:plot|print|draw|visuali[sz]e|report|show|render)(?:_|$)|_plot$", LOGGING),
    (rf"^log(?!_(?:{_LOGARITHM_OF})(?:_|s?$))(?:_|$)", LOGGING),
    (r"^(?!(?:\w+_)?(?:safe|stable|masked|clamp\w*|signed|to|soft|natural)_log$)\w+_log$", LOGGING),
    (r"^(?:write|dump|save)_\w*(?:log|csv|json|summary|history|fig|image|sample|curve)", LOGGING),
    (r"(?:^|_)(?:valid\w*|evaluat\w*|eval|test|infer\w*|predict)(?:_|$)", VALIDATION),
    (
        r"(?:build|make|construct|create|get|compute)_\w*(?:graph|edge|adjacen\w*|neighbou?r)",
        GRAPH_BUILD,
    ),
    (r"^(?:knn|radius)(?:_graph)?$|(?:^|_)adjacency(?:_|$)", GRAPH_BUILD),
    (r"^(?:all_?)?reduce|all_?gather|broadcast|sync_grad", COMMUNICATION),
    (
        r"(?:load|read|fetch|get|next|make|sample|prepare|iter\w*|draw)_\w*(?:batch|data|image)",
        DATA_LOADING,
    ),
    (
        r"^(?:collate|augment|preprocess|tokeni[sz]e|transform)(?:_|$)|(?:^|_)batch(?:es|ify)$",
        DATA_LOADING,
    ),
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@functools.lru_cache(maxsize=8192)
def of_library(module: str, function: str) -> Work | None:
    """What `function` of a library's `module` does, both as in `Libraries.module` and `Frame`."""
    for entry in _LIBRARIES:
        if _inside(module, entry.modules) and re.search(entry.functions, function):
            return entry.work
    return None


@functools.lru_cache(maxsize=8192)
def of_call(called: str) -> Work | None:
    """What a call does that has no frame, by the dotted name under which the source calls it."""
    return next((work for pattern, work in _CALLS if re.search(pattern, called)), None)


@functools.lru_cache(maxsize=8192)
def of_name(function: str) -> Work | None:
    """What the name of a function of the user hints at."""
    name = _CAMEL.sub("_", function.rpartition(".")[2]).lower().strip("_")
    for pattern, stage in _NAMES:
        if re.search(pattern, name):
            return Work(stage, f"named {function}")
    return None


def _inside(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)
