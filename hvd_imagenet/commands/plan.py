"""`hvd-imagenet plan`: what a cluster will do, before there is one."""

import argparse
import dataclasses
import json
from pathlib import Path

from hvd_imagenet.asked_file import write_asked_for
from hvd_imagenet.errors import UserError
from hvd_imagenet.planner import asked as asked_for
from hvd_imagenet.planner import figure, paper, table
from hvd_imagenet.planner.costs import Link
from hvd_imagenet.planner.outlook import SHARES, alternatives, looked_up_to, stops_scaling
from hvd_imagenet.planner.prediction import ALGORITHMS, IMAGENET_IMAGES, Cluster, Load, predict
from hvd_imagenet.planner.profile import DEVICES, Profile, load_profile
from hvd_imagenet.planner.stragglers import Stragglers

_DEFAULT_WORKERS = "8,…,256,352,1024,…,16384"
EXAMPLES = """\
examples:
  hvd-imagenet plan                         the paper's cluster, and past it
  hvd-imagenet plan --network 1gbit         what a slow network costs
  hvd-imagenet plan --minibatch 8192 --workers 8,64,256
      the same 8,192 images an iteration, shared by more and more workers
  hvd-imagenet plan --cores 20 --images-per-core 1200 --storage-mb 500
      what a server can decode and read
  hvd-imagenet plan --json plan.json --figure plan.png

Efficiency: images/s of a worker over those of one in a single full server.
Not in the model: validation, checkpoints, and traffic of others on the links.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    add = parser.add_argument_group("what is computed").add_argument
    add("--device", default="p100", metavar="NAME", help=f"{', '.join(DEVICES)}, or a profile's JSON file")
    add("--model", default="resnet50", metavar="NAME", help="resnet50 or resnet101 (default: resnet50)")
    add("--per-worker", type=int, default=32, metavar="N", help="images of one worker's pass (default: 32)")
    add("--minibatch", type=int, metavar="KN", help="fixed for all numbers of workers (default: N for each)")
    add("--epochs", type=float, default=90, metavar="E", help="of the run (default: 90)")
    add("--images", type=int, default=IMAGENET_IMAGES, metavar="N", help=f"of an epoch (default: {IMAGENET_IMAGES})")
    add = parser.add_argument_group("the cluster").add_argument
    add(
        "--workers", default=_DEFAULT_WORKERS, metavar="K,…", help=f"processes; … doubles (default: {_DEFAULT_WORKERS})"
    )
    add("--servers-of", type=int, default=8, metavar="G", help="workers of a server (default: 8)")
    add("--network", default="50gbit", metavar="RATE", help="a server's link: 50gbit, 200mbit (default: 50gbit)")
    add("--latency-us", type=float, metavar="US", help="of a message between servers (default: the profile's)")
    add("--stragglers", metavar="KIND:SPREAD", help="none, normal:0.02, lognormal:0.05, … (default: the profile's)")
    add("--cores", type=int, metavar="C", help="a server's for decoding images (default: enough)")
    add("--images-per-core", type=float, default=1200, metavar="R", help="decoded a second (default: 1200)")
    add("--storage-mb", type=float, metavar="MB/S", help="that a server reads a second (default: enough)")
    add("--image-kb", type=float, default=110, metavar="KB", help="of a stored image (default: 110, ImageNet's)")
    add = parser.add_argument_group("the exchange of gradients").add_argument
    text = f"between servers halving-doubling or ring; of all workers flat-ring or gloo-ring (default: {ALGORITHMS[0]})"
    add("--algorithm", choices=ALGORITHMS, default=ALGORITHMS[0], metavar="NAME", help=text)
    add("--fusion-threshold-mb", type=float, default=128, metavar="MIB", help="0: no fusion (default: 128)")
    add("--cycle-time-ms", type=float, default=1, metavar="MS", help="between looks for gradients (default: 1)")
    add = parser.add_argument_group("the answer").add_argument
    add("--json", type=Path, metavar="FILE", help="an object with `points` and every parameter's source")
    add("--figure", type=Path, metavar="FILE", help="PNG, SVG or PDF")


def run(arguments: argparse.Namespace) -> int:
    """Prints the table and what follows from it; the exit code."""
    profile = load_profile(arguments.device, arguments.model)
    try:
        if arguments.stragglers is not None:
            profile = dataclasses.replace(profile, stragglers=Stragglers.parse(arguments.stragglers))
        cluster, load = _cluster(arguments, profile), Load(arguments.per_worker, arguments.minibatch)
        points = [
            predict(profile, cluster, load, workers) for workers in asked_for.numbers_of_workers(arguments.workers)
        ]
        times_s = [table.run_seconds(point, load, arguments.images, arguments.epochs) for point in points]
        largest = max(points, key=lambda point: point.workers)
        others = alternatives(profile, cluster, load, largest)
        stops = {share: stops_scaling(profile, cluster, load, share) for share in SHARES}
    except ValueError as error:
        raise UserError(str(error)) from error
    lines, most = table.about(profile, cluster, load, arguments.network), looked_up_to(cluster, load)
    print("\n".join([*lines, "", table.table(points, times_s, arguments.epochs), ""]))
    print("\n".join(table.remarks(largest, others, stops, load, most)))
    if arguments.json is not None:
        in_json = {
            **table.as_json(profile, cluster, load, points, times_s),
            **{"network": arguments.network, "epochs": arguments.epochs, "images": arguments.images},
            **table.outlook_as_json(largest, others, stops, most),
        }
        write_asked_for("--json", arguments.json, json.dumps(in_json, indent=1))
    if arguments.figure is not None:
        measured_s = paper.MEASURED_S if _is_the_papers(arguments) else {}
        figure.draw(arguments.figure, points, lines[0], measured_s)
    return 0


def _is_the_papers(arguments: argparse.Namespace) -> bool:
    """Whether the paper has measured what is asked for."""
    asked = arguments.device, arguments.model, arguments.per_worker, arguments.minibatch, arguments.servers_of
    return asked == ("p100", "resnet50", 32, None, 8) and asked_for.bits_per_s(arguments.network) == paper.BITS_PER_S


def _cluster(arguments: argparse.Namespace, profile: Profile) -> Cluster:
    """The cluster that the options describe."""
    latency_s = profile.latency_s
    if arguments.latency_us is not None:
        latency_s = 1e-6 * asked_for.at_least_zero("--latency-us", arguments.latency_us)
    return Cluster(
        between=Link(latency_s, asked_for.bits_per_s(arguments.network) / 8 * profile.payload_share),
        servers_of=arguments.servers_of,
        algorithm=arguments.algorithm,
        exchange=asked_for.exchange_of(arguments.fusion_threshold_mb, arguments.cycle_time_ms),
        feeding=asked_for.feeding_of(
            arguments.cores, arguments.images_per_core, arguments.storage_mb, arguments.image_kb
        ),
    )
