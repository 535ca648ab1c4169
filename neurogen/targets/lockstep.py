"""Networks of one target trained in lockstep: the first update of every network, then the second of every network.

in:  the networks; the training samples, on the same device; for every update a batch of indices for each network
out: the networks, updated in place; the mean loss of each

Every network has an optimiser, an order of the data and a stream of the GPU for itself, and computes what it would
compute alone. An update of networks this small is hundreds of kernels, and a GPU finishes them faster than a CPU starts
them. So an update of all networks is recorded as a CUDA graph, one for each size of batch, and replayed. Until somebody
asks for the losses, nothing is read from the GPU.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from neurogen.config import TrainingConfig
from neurogen.data.dataset import Split
from neurogen.data.preparation import Texts
from neurogen.errors import is_out_of_memory, one_line

Work = Callable[[], None]
Record = Callable[[Work], Work]  # from work to what does it again, on the same tensors
Update = Callable[[Tensor], None]
Loss = Callable[[int, nn.Module, Tensor, Tensor], Tensor]  # of the network of this number, on inputs and labels

WARM_UP = 3  # updates before the one that is recorded: what they allocate, a graph could not


def cross_entropy(
    _: int, network: nn.Module, inputs: Float[Tensor, "batch ..."], labels: Int64[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """What target networks usually learn by."""
    return nn.functional.cross_entropy(network(inputs), labels)


class Lockstep:
    """Trains networks in place with AdamW, by the cross-entropy of their batches or another loss.

    `record` makes a graph of an update (`as_graph` on a GPU); None: every update runs as it is written.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        train: Split,
        training: TrainingConfig,
        record: Record | None,
        loss: Loss = cross_entropy,
    ) -> None:
        device = train.labels.device
        self.networks, self.train, self.loss = networks, train, loss
        self.optimizers = [adamw(network, training, device) for network in networks]
        self.losses = torch.zeros(len(networks), dtype=torch.float64, device=device)  # sums since they were read
        self.num_updates = 0  # in these sums
        self.streams = [torch.cuda.Stream() for _ in networks] if device.type == "cuda" else []
        self.recorded = None if record is None else Recorded(record)
        if record is not None and isinstance(train.samples, Texts):  # the shapes in a graph never change
            self.train = replace(train, samples=train.samples.all_padded())

    def update(self, batches: Int64[Tensor, "networks batch"]) -> None:
        """One update of every network, by the samples with these indices."""
        if self.recorded is None:
            self._update_all(batches)
        else:
            self.recorded(self._update_all, batches)
        self.num_updates += 1

    def mean_losses(self) -> Float64[Tensor, " networks"]:
        """The mean loss of every network since the last call, on the device."""
        means = self.losses / self.num_updates
        self.losses.zero_()
        self.num_updates = 0
        return means

    def _update_all(self, batches: Int64[Tensor, "networks batch"]) -> None:
        for index, network in enumerate(self.networks):
            with self._stream(index):
                self.optimizers[index].zero_grad()
                inputs, labels = self.train.batch(batches[index])
                loss = self.loss(index, network, inputs, labels)
                loss.backward()
                self.optimizers[index].step()
                self.losses[index].add_(loss.detach())
        for stream in self.streams:
            torch.cuda.current_stream().wait_stream(stream)

    def _stream(self, index: int) -> AbstractContextManager[None]:
        """The network's stream of the GPU, from what the current one has done so far; nothing on a CPU."""
        if not self.streams:
            return nullcontext()
        self.streams[index].wait_stream(torch.cuda.current_stream())
        return torch.cuda.stream(self.streams[index])


class Recorded:
    """An update that is recorded once for each size of batch, after some that warm up, and then replayed.

    It does not hold the update, which would hold it: in such a cycle graphs would keep their memory of the GPU.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.num_seen: Counter[int] = Counter()  # updates by size
        # by size, the indices that the graph reads, and the graph; None where there can be none
        self.replays: dict[int, tuple[Tensor, Work | None]] = {}

    def __call__(self, update: Update, batches: Int64[Tensor, "networks batch"]) -> None:
        """One update, as written or by a graph."""
        size = batches.shape[1]
        self.num_seen[size] += 1
        if self.num_seen[size] <= WARM_UP:
            with warnings.catch_warnings():  # torch wonders why an optimiser for graphs runs outside of them
                warnings.filterwarnings("ignore", "This instance was constructed with capturable", UserWarning)
                update(batches)
            return
        if size not in self.replays:
            read = batches.clone()
            self.replays[size] = read, self._recorded(partial(update, read))
        read, replay = self.replays[size]
        if replay is None:
            update(batches)
        else:
            read.copy_(batches)
            replay()

    def _recorded(self, work: Work) -> Work | None:
        """The graph of `work`. Where torch cannot make one, this says why."""
        causes = list[BaseException]()

        def remembered() -> None:
            try:
                work()
            except BaseException as error:
                causes.append(error)
                raise

        try:
            return self.record(remembered)
        except RuntimeError as error:
            cause = next(iter(causes), error)  # the end of a recording that has failed raises an error of its own
            if is_out_of_memory(cause) or not isinstance(cause, Exception):
                raise cause from None
            print(f"  no CUDA graph of this target, which makes it slower ({one_line(cause)})", file=sys.stderr)
            return None


def as_graph(work: Work) -> Work:
    """Record `work` on the GPU, without doing it. Raises RuntimeError for work that waits for the GPU's results."""
    graph = torch.cuda.CUDAGraph()
    # the outer stream is current again afterwards even if the recording fails, when torch leaves its own one current
    with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph):
        work()
    return graph.replay


def adamw(network: nn.Module, training: TrainingConfig, device: torch.device) -> torch.optim.AdamW:
    """The optimiser; on a GPU its learning rate is a tensor, which a recorded graph reads anew in every update."""
    in_graphs = device.type == "cuda"
    lr = torch.tensor(training.lr, device=device) if in_graphs else training.lr
    return torch.optim.AdamW(
        network.parameters(), lr, weight_decay=training.weight_decay, fused=True, capturable=in_graphs
    )
