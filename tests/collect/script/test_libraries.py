import json
import os
import sysconfig

import pytest

import perfdoctor.errors
from perfdoctor.collect.script import work
from perfdoctor.collect.script.libraries import Libraries

SITE = "/venv/lib/python3.11/site-packages/"


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/home/me/train.py", "user"),
        ("train.py", "user"),
        ("/home/me/src/mypackage/data.py", "user"),
        (SITE + "torch/nn/modules/module.py", "torch"),
        (SITE + "PIL/Image.py", "PIL"),
        (SITE + "pytorch_lightning/trainer/trainer.py", "lightning"),
        (SITE + "typing_extensions.py", "typing_extensions"),
        ("/usr/lib/python3/dist-packages/numpy/lib/npyio.py", "numpy"),
        ("/home/me/venv/lib/python3.11/site-packages/sklearn/base.py", "sklearn"),
        ("C:\\Python\\Lib\\site-packages\\pandas\\io\\parsers.py", "pandas"),
        (json.__file__, "stdlib"),
        (os.__file__, "stdlib"),
        (sysconfig.get_paths()["stdlib"] + "/multiprocessing/pool.py", "stdlib"),
        ("<frozen importlib._bootstrap>", "stdlib"),
        ("<string>", "stdlib"),
        ("<ipython-input-3-abc>", "user"),
        ("<eval_with_key>.4", "torch"),
        (perfdoctor.errors.__file__, "perfdoctor"),
    ],
)
def test_a_file_belongs_to_whoever_installed_it(path, owner):
    assert Libraries().of(path) == owner


def test_a_module_run_from_site_packages_is_the_users():
    folder = SITE + "mytraining"
    assert Libraries([folder]).of(folder + "/train.py") == "user"
    assert Libraries([folder]).of(SITE + "torch/optim/adam.py") == "torch"


def test_a_script_in_the_root_or_in_site_packages_itself_makes_nothing_else_the_users():
    libraries = Libraries(["/", SITE])
    assert libraries.of(json.__file__) == "stdlib"
    assert libraries.of(SITE + "torch/optim/adam.py") == "torch"


def test_the_module_of_a_library_is_its_dotted_name():
    libraries = Libraries()
    assert libraries.module(SITE + "sklearn/metrics/_ranking.py") == "sklearn.metrics._ranking"
    assert libraries.module(SITE + "pytorch_lightning/loggers/csv_logs.py") == (
        "lightning.loggers.csv_logs"
    )
    assert libraries.module(json.__file__) == "json"
    assert libraries.module("/home/me/train.py") == ""


@pytest.mark.parametrize(
    ("module", "function", "stage"),
    [
        ("sklearn.metrics._ranking", "average_precision_score", "metrics"),
        ("sklearn.metricsfake", "f", None),
        ("matplotlib.figure", "Figure.savefig", "logging"),
        ("tqdm.std", "tqdm.update", "logging"),
        ("tqdm.std", "tqdm.__iter__", None),
        ("PIL.Image", "Image.save", "logging"),
        ("PIL.Image", "Image.resize", "data_loading"),
        ("torch.serialization", "save", "checkpoint"),
        ("torch.serialization", "load", None),
        ("shutil", "copyfile", "checkpoint"),
        ("pandas.core.generic", "NDFrame.to_csv", "logging"),
        ("pandas.core.generic", "to_csv", "logging"),
        ("pandas.io.parsers.readers", "read_csv", "data_loading"),
        ("pandas.core.groupby", "GroupBy.mean", None),
        ("transformers.trainer", "Trainer._maybe_log_save_evaluate", None),
        ("transformers.trainer", "Trainer._save_checkpoint", "checkpoint"),
        ("transformers.trainer", "Trainer.evaluate", "validation"),
        ("torch.nn.modules.linear", "Linear.forward", None),
    ],
)
def test_a_librarys_function_tells_the_kind_of_work(module, function, stage):
    found = work.of_library(module, function)
    assert (found and found.stage) == stage


@pytest.mark.parametrize(
    ("called", "stage"),
    [
        ("print", "logging"),
        ("fingerprint", None),
        ("sys.stdout.flush", "logging"),
        ("writer.writerow", "logging"),
        ("pickle.dump", "checkpoint"),
        ("np.load", "data_loading"),
        ("model.train", None),
    ],
)
def test_a_call_without_a_frame_is_known_by_its_name(called, stage):
    found = work.of_call(called)
    assert (found and found.stage) == stage


@pytest.mark.parametrize(
    ("function", "stage"),
    [
        ("compute_metrics", "metrics"),
        ("Trainer.saveCheckpoint", "checkpoint"),
        ("plot_losses", "logging"),
        ("log", "logging"),
        ("log_step", "logging"),
        ("Runner.log_losses", "logging"),
        ("log_scalars", "logging"),
        ("log_summary", "logging"),
        ("log_weights", "logging"),
        ("write_log", "logging"),
        ("log_mel", None),
        ("log_mel_spectrogram", None),
        ("Policy.log_prob", None),
        ("log_probs", None),
        ("log_softmax", None),
        ("log_sum_exp", None),
        ("logLikelihood", None),
        ("safe_log", None),
        ("evaluate", "validation"),
        ("build_graph", "graph_build"),
        ("get_batch", "data_loading"),
        ("main", None),
        ("train_one_epoch", None),
        ("latest", None),
        ("login", None),
    ],
)
def test_a_users_function_is_hinted_at_by_its_name(function, stage):
    found = work.of_name(function)
    assert (found and found.stage) == stage
