"""How one point of the scaling lab is measured, and how long that takes."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from scaling_lab_hosts import Lab, reduce_s_per_byte
from scaling_lab_points import (
    MESSAGES_AT_ONCE,
    MESSAGES_ROUNDS,
    Messages,
    Setting,
    assumed_messages,
    compute_s,
    predicted,
)
from scaling_lab_results import Results
from scaling_lab_summary import Row, line, row
from scaling_lab_timeline import measured_shares, predicted_shares, seen

UNMEASURED = 1
# Where communication ends a step, steps are alike; elsewhere they differ with the phase of Horovod's cycles.
STEPS, STEPS_WHERE_ALIKE, ALIKE_FROM = 5, 3, 1.1
SLOWER = 1.5  # when the cores were too busy
START_S, START_S_PER_RANK = 8.0, 1.6
ADDS = "reduce_s_per_byte"


def steps_of(setting: Setting, step_s: float) -> int:
    """How many steps are measured."""
    return STEPS if step_s < ALIKE_FROM * compute_s(setting.profile) * setting.factor else STEPS_WHERE_ALIKE


def key_of(setting: Setting, factor: float) -> str:
    """What messages depend on."""
    return f"{setting.hosts} x {setting.per_host}, {setting.over}, {setting.latency_us:g} us x {factor:g}"


def minutes(left: Sequence[Setting], results: Results) -> float:
    """The time that points take, with the calibrations that they need; before those, by a guess of messages."""
    seconds, keys = 0.0, set()
    for setting in left:
        start_s, key = START_S + START_S_PER_RANK * setting.ranks, key_of(setting, setting.factor)
        messages = results.messages(key) or assumed_messages(setting, setting.factor)
        if results.messages(key) is None and key not in keys:
            keys.add(key)
            rows_s = (MESSAGES_ROUNDS // 10) * MESSAGES_AT_ONCE * setting.messages * messages.message_s
            seconds += start_s + MESSAGES_ROUNDS * 2.5 * messages.negotiation_s + rows_s
        step_s = predicted(setting, setting.factor, messages, 0.0).seconds
        seconds += start_s + (UNMEASURED + steps_of(setting, step_s)) * step_s
    return seconds / 60


def measure(setting: Setting, lab: Lab, results: Results) -> Row:
    """A point; measured again and slower where the cores were busy for more than half of the time."""
    point = _measure(setting, setting.factor, lab, results)
    print(line(point), flush=True)
    if point["over_half_load"] and setting.over == "gloo" and lab.cluster is not None:
        point = _measure(setting, SLOWER * setting.factor, lab, results)
        print(line(point), flush=True)
    return point


def _measure(setting: Setting, factor: float, lab: Lab, results: Results) -> Row:
    messages, adds = _calibrated(setting, factor, lab, results)
    step = predicted(setting, factor, messages, adds)
    found = lab.steps(setting, factor, UNMEASURED, steps_of(setting, step.seconds))
    return row(setting, found, step, factor, results.origin)


def _calibrated(setting: Setting, factor: float, lab: Lab, results: Results) -> tuple[Messages, float]:
    """What short messages take and how fast a core adds; measured where the file does not have it."""
    if ADDS not in results.calibration:
        results.calibrate(ADDS, reduce_s_per_byte())
    key = key_of(setting, factor)
    messages = results.messages(key)
    if messages is None:
        messages = lab.messages(setting, factor)
        results.calibrate(key, messages)
        print(f"{key}: a message {1e3 * messages.message_s:.2f} ms, to agree {1e3 * messages.negotiation_s:.2f} ms")
    return messages, results.calibration[ADDS]


def show_timeline(setting: Setting, lab: Lab, results: Results) -> Row:
    """What Horovod's timeline shows of a setting's steps, and what the planner says of them."""
    messages, adds = _calibrated(setting, setting.factor, lab, results)
    step = predicted(setting, setting.factor, messages, adds)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "timeline.json"
        found = lab.steps(setting, setting.factor, UNMEASURED, STEPS, timeline=path)
        looks = seen(path)
    return {
        **asdict(setting),
        "setting": str(setting),
        "compute_s": round(compute_s(setting.profile), 6),
        "measured": measured_shares(looks, found).rounded(),
        "predicted": predicted_shares(step, messages.negotiation_s).rounded(),
        **results.origin,
    }
