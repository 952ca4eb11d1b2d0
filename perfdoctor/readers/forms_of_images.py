"""The forms of logs of trainings on images, and of ImageNet's many descendants."""

from __future__ import annotations

from perfdoctor.readers.form import Form
from perfdoctor.readers.roles import Hints

_N = r"[0-9][0-9.]{0,20}"

IMAGES: tuple[Form, ...] = (
    Form(
        "pytorch_imagenet",
        "PyTorch's ImageNet example and its many descendants",
        "Epoch: [17][ 8000/10010]  Time  0.501 ( 0.983)  Data  0.000 ( 0.438)",
        rf"(?:Epoch|Train|TRAIN)\S{{0,8}} ?\[ ?[0-9]+[^\]]{{0,8}}\] ?\[ *[0-9]+ ?/ ?[0-9]+ ?\]"
        rf".{{0,12}}(?:Batch )?Time:? +{_N}s? +\(",
        0.85,
        "pytorch",
        Hints(roles={"time": "step_s", "batch_time": "step_s"}),
        single=True,
    ),
    Form(
        "pointweb_data_batch_remain",
        "PointWeb and semseg",
        "Epoch: [1/120][180/3368] Data 0.002 (0.574) Batch 0.818 (3.887) Remain 436:08:39",
        r"Batch [0-9.]+ \([0-9.]+\) ?,? Remain",
        0.92,
        "pytorch",
        single=True,
    ),
    Form(
        "timm_text",
        "timm",
        "Train: 0 [  50/1251 (  4%)]  Loss: 6.92 (6.93)  Time: 0.558s, 1833.54/s  (0.775s, 1320/s)",
        r"Train: [0-9]+ \[ *[0-9]+/[0-9]+ +\(",
        0.9,
        "timm",
        Hints(roles={"time": "step_s", "data": "data_loading_s"}),
        single=True,
    ),
    Form(
        "metriclogger_text",
        "MetricLogger: torchvision references, DETR, DINO, MAE",
        "Epoch: [0]  [  0/128]  eta: 0:12:43  loss: 1.2 (1.3)  time: 5.96  data: 2.76  max mem: 19",
        r"\[ *[0-9]+/[0-9]+\] +eta: .{0,3000}\btime: ?[0-9.]+ +data: ?[0-9.]+",
        0.9,
        "pytorch",
        Hints(roles={"time": "step_s", "data": "data_loading_s"}),
    ),
    Form(
        "maskrcnn_benchmark",
        "maskrcnn-benchmark",
        "eta: 4:12:17  iter: 20  loss: 1.78 (3.11)  time: 0.1229 (0.3786)  data: 0.0016 (0.0566)",
        r"eta: .{1,24}iter: [0-9]+ .{0,3000}\btime: [0-9.]+ \([0-9.]+\) +data: ",
        0.92,
        "pytorch",
        Hints(roles={"time": "step_s", "data": "data_loading_s"}),
    ),
    Form(
        "mmengine_text",
        "MMEngine",
        "Epoch(train)   [1][100/101]  lr: 1.0e-01  eta: 1:43:01  time: 0.1435  data_time: 0.0003",
        r"(?:Epoch|Iter)\((?:train|val|test)\) +\[",
        0.92,
        "mmengine",
        Hints(roles={"time": "step_s"}),
    ),
    Form(
        "mmcv_text",
        "mmcv (OpenMMLab before MMEngine)",
        "Epoch [5][50/3750]  lr: 1.000e-03, eta: 6:18:16, time: 0.758, data_time: 0.433",
        r"(?:Epoch ?\[[0-9]+\]|Iter) ?\[[0-9]+/[0-9]+\].{0,400}\btime: [0-9.]+, data_time: ",
        0.92,
        "mmcv",
        Hints(roles={"time": "step_s"}),
    ),
    Form(
        "detectron2_text",
        "Detectron2",
        "eta: 21:12:23  iter: 19  total_loss: 0.41  time: 0.6826  data_time: 0.3791  lr: 0.0002",
        r"iter: [0-9]+ +total_loss: ",
        0.92,
        "detectron2",
        Hints(roles={"time": "step_s"}),
    ),
    Form(
        "ultralytics_console",
        "Ultralytics YOLOv8 and later",
        "      1/100     2.61G     1.153     2.398     1.192        22       640: 100%",
        r"^ +Epoch +GPU_mem +|Ultralytics (?:YOLO)?v?[0-9]+\.[0-9]+|completed in [0-9.]+ hours",
        0.86,
        "ultralytics",
    ),
    Form(
        "yolov5_console",
        "YOLOv5 and YOLOv7",
        "     0/199     18.6G    0.1738    0.0142   0.01563        55      1600: 100%",
        r"^ +Epoch +gpu_mem +|YOLO(?:v5|R|v7) .{0,3}v?[0-9]"
        r"|^\s{3,}[0-9]+/[0-9]+ +[0-9.]+G +[0-9.]+ ",
        0.8,
        "yolov5",
    ),
    Form(
        "yolov7_results_txt",
        "YOLOv7's results.txt",
        "     0/99     3.97G   0.08988    0.0183   0.02755    0.1357       193       640   0.02414",
        r"^ *[0-9]+/[0-9]+ +[0-9.]+G(?: +[0-9.e\-]{1,12}){12,20}\s*$",
        0.9,
        "yolov5",
    ),
)
