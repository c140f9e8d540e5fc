"""Train the classifier that scores samples of MNIST: python experiments/classifier.py [--seed 0] [--results FOLDER] ...

Writes FOLDER/ho_2020/mnist_classifier/seed<k>.safetensors, weights in float16, and the record of their accuracy beside it;
`evaluate.py experiment=ho_2020/mnist_samples` reads the shipped ones, which `--results results` makes anew. Trained on the
images that the diffusion model is trained on; about a minute on two cores, the same weights for the same seed, machine and
number of threads.
"""

import argparse
import time
from pathlib import Path

import safetensors.torch
import torch
from tqdm import tqdm

from dpm import seeds
from dpm.data import files
from dpm.data.images import DiscreteImages
from dpm.facts import Scalar, of_network
from dpm.networks.classifier import Classifier, correct, fit
from dpm.runs import app
from dpm.runs.weights import rounded
from dpm.study.records import Measurement, Record, provenance, standard_error, write_atomically

EXPERIMENT, KEPT = "ho_2020/mnist_classifier", 10000  # training images that are left out, as in conf/data/mnist.yaml


def train(settings: argparse.Namespace) -> tuple[Record, bytes]:
    data, (labels, test_labels) = DiscreteImages(files.mnist, KEPT, False), files.mnist_labels(files.default_folder())
    seeds.seed_everything(settings.seed, seeds.INITIALISATION)
    model, start = Classifier(), time.monotonic()
    steps = fit(model, data.train, labels[:-KEPT], settings.steps, settings.batch_size, settings.rate, settings.seed)
    for _ in tqdm(steps, total=settings.steps, mininterval=1, disable=None, unit="step"):
        pass
    spent = {
        **{"steps": settings.steps, "examples": settings.steps * settings.batch_size},
        **{"seconds": round(time.monotonic() - start, 1), "device": "cpu", "threads": settings.threads},
    }
    weights = safetensors.torch.save(rounded(model.eval(), "float16"))
    right = correct(model, data.test, test_labels)
    about: dict[str, Scalar] = {"data": "mnist", "split": "test", "seed": settings.seed}
    accuracy = Measurement("accuracy", float(right.mean()), standard_error(right), len(right), "1", about)
    recipe = {name: getattr(settings, name) for name in ("seed", "steps", "batch_size", "rate", "threads")}
    origin = provenance(recipe, data.test.tobytes() + test_labels.tobytes(), weights)
    of_model = {**of_network(model), "steps": settings.steps, "batch_size": settings.batch_size}
    return Record(EXPERIMENT, settings.seed, "laptop", of_model, spent, origin, (accuracy,)), weights


def main() -> None:
    parser = app.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3, help="of Adam, at the start")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path("results/yours"))
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    record, weights = train(settings)
    (accuracy,) = record.measurements
    print(f"accuracy {accuracy.value:.4f} +- {accuracy.stderr:.4f}, {accuracy.n:,} test images")
    path = settings.results / EXPERIMENT / f"seed{settings.seed}.json"
    write_atomically(path.with_suffix(".safetensors"), weights)
    record.save(path)
    print(path)


if __name__ == "__main__":
    app.run(main)
