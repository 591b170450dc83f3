"""`entrostat identify`."""

from argparse import Namespace
from pathlib import Path

from ..kinds import Commands, add, noise, share
from ..needs import check_ending, check_sources


def register(commands: Commands) -> None:
    text = "Fit the plant to logged runs: gain with its interval, drift, noise, dead band."
    command = add(commands, "identify", _run, text, "entrostat identify runs/excited --out plant.yaml", "train")
    what = "run folders, CSV or JSON of step,entropy,command (or eps_low,eps_high), MLflow run ids or experiments"
    command.add_argument("runs", nargs="+", metavar="RUN", help=what)
    command.add_argument("--out", type=Path, default=Path("plant.yaml"), help="file to write (default: plant.yaml)")
    command.add_argument("--lag", type=share, help="momentum, beta1 ^ updates per rollout (for CSV)")
    command.add_argument("--noise", type=noise, help="standard error of the entropy in nats, where a log has none")
    command.add_argument("--tracking-uri", help="of MLflow (default: MLFLOW_TRACKING_URI, or sqlite:///mlflow.db)")


def _run(options: Namespace) -> None:
    from ...address import tracking_uri

    check_ending(options.out, ".yaml", ".yml")
    tracking = options.tracking_uri or tracking_uri()
    check_sources(options.runs, tracking)
    from ...commands.plant.identify import run_identify
    from ...reporting.table import below_labels

    print(below_labels(run_identify(options.runs, options.out, options.lag, options.noise, tracking)))
