"""What PD109 says to change: it depends on whose function puts samples together."""

from __future__ import annotations

from collections.abc import Mapping

from perfdoctor.rules.facts import Facts
from perfdoctor.rules.run_batches import iterable

#: What torch does instead of collating where batch_size=None.
_OF_NO_BATCHES = "default_convert"
#: Advice, change and lines to paste.
_OWN_COLLATE: tuple[str, Mapping[str, object], str] = (
    "Vectorise the collate function: store samples as tensors and join them with torch.stack or "
    "torch.nn.utils.rnn.pad_sequence, never element by element.",
    {"collate": "vectorised"},
    "from torch.nn.utils.rnn import pad_sequence\n\n"
    "def collate(samples):  # tensors, made once in the dataset\n"
    "    inputs, targets = zip(*samples)\n"
    "    return pad_sequence(inputs, batch_first=True), torch.stack(targets)",
)
_IN_MEMORY = (
    "The samples lie in memory, and torch's default collate gets them one by one to stack them "
    "again: index with the whole batch instead. With batch_size=None and a sampler of batches, "
    "__getitem__ gets the numbers of one batch, and nothing is left to put together."
)
_ONE_BY_ONE = (
    "torch's default collate stacks a tensor of each sample, or converts each number of a list: "
    "return tensors or arrays, never lists of numbers; and where samples are small make a whole "
    "batch at a time. With batch_size=None and a sampler of batches, __getitem__ gets the numbers "
    "of one batch, and nothing is left to put together."
)
_CONVERTED = (
    "Nothing is put together here: torch's default_convert makes a tensor of each array that the "
    "data set returns, one by one. Return tensors, or one array for the whole batch, never lists "
    "of them."
)
_ARRAYS = (
    "def __getitem__(self, numbers):  # of a whole batch\n"
    "    return torch.as_tensor(self.inputs[numbers]), torch.as_tensor(self.targets[numbers])"
)
_NUMBERS = (
    "from torch.utils.data import BatchSampler, DataLoader, RandomSampler\n\n"
    "batches = BatchSampler(RandomSampler(dataset), batch_size, drop_last=False)\n"
    "loader = DataLoader(dataset, sampler=batches, batch_size=None)\n\n"
    "def __getitem__(self, numbers):  # of a whole batch\n"
    "    return self.inputs[numbers], self.targets[numbers]"
)
_STREAMED = (
    "torch's default collate stacks a tensor of each sample, or converts each number of a list: "
    "yield tensors or arrays, never lists of numbers; and where samples are small yield whole "
    "batches, which batch_size=None leaves as they are."
)
_WHOLE_BATCHES = (
    "def __iter__(self):\n"
    "    for rows in self.batches_of_rows():\n"
    "        yield torch.as_tensor(prepare(rows))  # all rows at a time\n\n"
    "loader = DataLoader(dataset, batch_size=None)"
)


def collate_advice(facts: Facts) -> tuple[str, Mapping[str, object], str]:
    """Advice, change and lines to paste; torch's own function stacks tensors already."""
    path = "configuration.collate"
    name = facts.get(path) if facts.has(path) else None
    if name == _OF_NO_BATCHES:
        snippet = _WHOLE_BATCHES if iterable(facts) else _ARRAYS
        return _CONVERTED, {"collate": "vectorised"}, snippet
    if name != "default":
        return _OWN_COLLATE
    if iterable(facts):
        return _STREAMED, {"index_batches": True}, _WHOLE_BATCHES
    return _IN_MEMORY if _in_memory(facts) else _ONE_BY_ONE, {"index_batches": True}, _NUMBERS


def _in_memory(facts: Facts) -> bool:
    path = "configuration.dataset_in_memory"
    return facts.has(path) and facts.get(path) is True
