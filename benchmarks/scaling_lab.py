"""Do steps take as long as the planner says? Up to 16 ranks on 4 hosts whose devices are clocks, and real all else.

Each rank waits for as long as a P100 computes ResNet-50 (scaling_lab_rank.py), or a core of this machine ResNet-20, and
reduces real tensors with the real optimizer over Horovod: over Gloo, whose ring goes through all ranks, and over MPI
with a fixed algorithm. The hosts are network namespaces whose links `tc` makes slow and a switch of ours late. So that
two cores can serve all ranks, times are 4 to 40 times as long as the device's and tensors as much smaller (`factor` of
each point). A link of 43 Gbit/s becomes one of 43 Gbit/s / factor², 14.4 us become 14.4 us · factor, and Horovod's
cycle time and fusion threshold are scaled alike. Overlap, fusion and negotiation are real. A point over Gloo that keeps
the cores busy for more than half of the time is measured again with half as much of a factor more. MPI polls, whatever
the factor; its points only say so.

What the planner needs beside the device's profile is fixed before the points that it is compared with: the rate of the
links, as `tc` is told it, less headers and acknowledgements; what short messages take between so many ranks on ways so
late, and how fast a core adds numbers (`calibration`). Beside it stands who takes communication for free. As root:

    python benchmarks/scaling_lab.py --json benchmarks/results/scaling_lab.json

--list says what there is to do and how long it takes. A point that the file has is not measured again, unless by
--again. At last the best settings of the sweep are measured once more, then with devices as uneven as the paper's, and
Horovod's timeline of one point is compared with the planner's.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from scaling_lab_hosts import JobFailed, Lab, hosts
from scaling_lab_points import FOLLOWING, FULL, QUICK, TIMELINE, Setting
from scaling_lab_results import Results
from scaling_lab_study import measure, minutes, show_timeline
from scaling_lab_summary import best_setting, stragglers_row


def study(settings: list[Setting], lab: Lab, results: Results, most: int | None = None) -> int:
    """Measures what the file does not have, or the first so many of it, and writes the file after each point.

    Returns:
        How many could not be measured; what their jobs said is on the terminal.
    """
    left, failed = results.left(settings)[:most], 0
    for number, setting in enumerate(left):
        print(f"{len(left) - number} points left, {minutes(left[number:], results):.0f} min", flush=True)
        try:
            results.add(measure(setting, lab, results))
        except JobFailed as error:
            failed += 1
            print(f"not measured: {setting}\n{error}", flush=True)
    return failed


def follow(lab: Lab, results: Results) -> None:
    """What can be measured only when the points are: the best of them again, and with stragglers; the timeline."""
    best = best_setting(results.points)
    if best is None:
        return
    if not results.has("confirmed", best):
        results.put("confirmed", measure(best, lab, results))
    uneven = replace(best, spread=best.profile.stragglers.spread)
    if not results.has("with_stragglers", uneven):
        results.put("with_stragglers", stragglers_row(measure(uneven, lab, results), uneven.profile))
    if not results.has("timeline", TIMELINE):
        results.put("timeline", show_timeline(TIMELINE, lab, results))


def told(found: dict[str, Any]) -> str:
    """All but the points."""
    long = ("points", "shown", "calibration", "confirmed", "with_stragglers", "best_settings")
    return json.dumps({name: value for name, value in found.items() if name not in long}, indent=1)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--only", type=int, nargs="+", metavar="RANKS", help="points of so many ranks alone")
    parser.add_argument("--points", type=int, metavar="N", help="measure no more than so many this time")
    parser.add_argument("--again", action="store_true", help="measure points that the file has, too")
    parser.add_argument("--list", action="store_true", help="say what is left to measure, and measure nothing")
    parser.add_argument("--quick", action="store_true", help="one point of 2 ranks on this machine, without hosts")
    return parser.parse_args()


def main() -> None:
    arguments = options()
    settings = QUICK if arguments.quick else FULL
    settings = [each for each in settings if arguments.only is None or each.ranks in arguments.only]
    results = Results(arguments.json, arguments.again)
    if arguments.list:
        left = results.left(settings)
        following = [] if arguments.quick else FOLLOWING
        print("\n".join([*map(str, left), f"{len(left)} points left, {minutes([*left, *following], results):.0f} min"]))
        return
    if arguments.quick:
        lab = Lab(None)
        failed = study(settings, lab, results)
        if not failed and not results.has("timeline", QUICK[0]):
            results.put("timeline", show_timeline(QUICK[0], lab, results))
    else:
        with hosts() as cluster:
            lab = Lab(cluster)
            failed = study(settings, lab, results, arguments.points)
            if arguments.points is None:
                follow(lab, results)
    print(told(results.found))
    raise SystemExit(f"error: {failed} points could not be measured" if failed else 0)


if __name__ == "__main__":
    main()
