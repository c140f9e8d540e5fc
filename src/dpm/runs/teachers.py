"""A trained process as a part of another training: its teacher, or where it starts from."""

from torch import nn

from dpm.decoders import Decoder
from dpm.errors import UserError
from dpm.predictions import Prediction
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.runs import checkpoints
from dpm.runs.weights import load_averaged
from dpm.stored import ROOT
from dpm.variances import Variance


def of_run(
    folder: str | None,
    process: GaussianDiffusion,
    network: nn.Module,
    prediction: Prediction,
    variance: Variance,
    decoder: Decoder,
) -> GaussianReverse:
    """The process with the averaged weights of the run in `folder`, relative to the checkout; as initialised for None."""
    reverse = GaussianReverse(process, network, prediction, variance, decoder)
    if folder is None:
        return reverse
    state, complaints = checkpoints.load_newest(ROOT / folder)
    if state is None or complaints:
        raise UserError(f"{folder}: {complaints[0] if complaints else 'no run; train what it is named after first'}")
    load_averaged(reverse, state, ROOT / folder)
    return reverse
