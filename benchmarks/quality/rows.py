"""The quality benchmark's table of targets and results, from its JSON. Pure."""

from dataclasses import dataclass
from typing import Any

from benchmarks.lib.targets import QUALITY, RENDERERS

Result = dict[str, Any]

FORMAT = 2
"""Of the JSON: results of another format were measured in another way and count as not measured."""


@dataclass(frozen=True)
class Row:
    """A target and its result. `met` is None if it was not measured."""

    what: str
    aim: str
    reached: str
    met: bool | None
    n: str = ""

    @property
    def verdict(self) -> str:
        return {True: "ok", False: "MISSED", None: "not measured"}[self.met]


def share(value: float) -> str:
    return f"{value:.1%}"


def rows(result: Result) -> list[Row]:
    """A row for every target, measured or not."""
    if result.get("format") != FORMAT:
        result = {name: part for name, part in result.items() if name == "live"}
    return [
        *_lips_rows(result),
        *_drift_rows(result.get("drift")),
        *_onset_rows(result.get("onset")),
        *_identity_rows(result.get("identity")),
        *_idle_rows(result.get("idle")),
        *_autoencoder_rows(result.get("autoencoder")),
        *_people_rows(result.get("people")),
        *_speed_rows(result.get("speed")),
        *_live_rows(result.get("live")),
    ]


def _decibels(value: float | None, target: str, n: str) -> tuple[str, bool | None, str]:
    """Result, verdict and count of a value that may be missing because no frame shows it."""
    return ("none", None, n) if value is None else (f"{value:.2f} dB", QUALITY[target].met(value), n)


def _missing(*pairs: tuple[str, str]) -> list[Row]:
    return [Row(what, aim, "", None) for what, aim in pairs]


def _lips_rows(result: Result) -> list[Row]:
    aims = (
        ("lips against the phones' ground truth (correlation)", QUALITY["lips_to_truth"].text),
        ("lips against the curves that drove them (correlation)", QUALITY["lips_to_curves"].text),
        ("p, b, m closed", QUALITY["closures"].text),
        ("lag to the ground truth", QUALITY["lag"].text),
        ("mouth, against the rig", QUALITY["mouth"].text),
        ("shut lids, against the rig", QUALITY["shut_lids"].text),
        ("gradient energy as a share of the rig's, whole character", QUALITY["sharpness"].text),
        ("gradient energy as a share of the rig's, mouth", QUALITY["sharpness_mouth"].text),
    )
    taught = (
        ("lip correlation, one step minus the teacher, same noise", QUALITY["teacher_lips"].text),
        ("gradient energy, one step as a share of the teacher", QUALITY["teacher_sharpness"].text),
    )
    lips = result.get("lips")
    if lips is None:
        return _missing(*aims, *taught)
    one = lips["columns"]["one step"]
    frames = f"{one['n']} frames"
    values = (
        (
            f"{one['pcc_truth']:.3f} (the curves: {one['pcc_truth_of_curves']:.3f})",
            QUALITY["lips_to_truth"].met(one["pcc_truth"]),
            frames,
        ),
        (f"{one['pcc_curves']:.3f}", QUALITY["lips_to_curves"].met(one["pcc_curves"]), frames),
        (
            f"{share(one['closures_held'])} (the curves: {share(one['closures_held_by_curves'])}); "
            f"and {share(one['falsely_closed'] or 0)} of open mouths",
            QUALITY["closures"].met(one["closures_held"]),
            f"{one['closures']} closures",
        ),
        (
            f"{one['lag_truth_ms']:+.1f} ms (to the curves {one['lag_curves_ms']:+.1f})",
            QUALITY["lag"].met(one["lag_truth_ms"]),
            frames,
        ),
        (
            f"{one['psnr_mouth']:.2f} dB (whole frame {one['psnr']:.1f}, eyes {one['psnr_eyes']:.1f})",
            QUALITY["mouth"].met(one["psnr_mouth"]),
            frames,
        ),
        _decibels(one["psnr_shut_lids"], "shut_lids", f"{one['shut_lids']} eyes"),
        (share(one["energy_share"]), QUALITY["sharpness"].met(one["energy_share"]), frames),
        (share(one["energy_share_mouth"]), QUALITY["sharpness_mouth"].met(one["energy_share_mouth"]), frames),
    )
    out = [Row(what, aim, *value) for (what, aim), value in zip(aims, values, strict=True)]
    loss = lips.get("one step against teacher")
    if loss is None:
        return [*out, *_missing(*taught)]
    return [
        *out,
        Row(
            *taught[0],
            f"{loss['pcc_difference']:+.3f}",
            QUALITY["teacher_lips"].met(loss["pcc_difference"]),
            f"{loss['n']} frames",
        ),
        Row(
            *taught[1],
            f"{share(loss['sharpness_whole'])} whole, {share(loss['sharpness_mouth'])} mouth",
            QUALITY["teacher_sharpness"].met(loss["sharpness"]),
            f"{loss['n']} frames",
        ),
    ]


def _drift_rows(drift: Result | None) -> list[Row]:
    aims = (
        ("10 minutes: PSNR of still parts, last minute minus the first", QUALITY["drift"].text),
        ("10 minutes: PSNR against the rig, last minute minus the first", QUALITY["drift"].text),
        ("10 minutes: slope of colour (Lab), the worst of six", QUALITY["colour_slope"].text),
        ("10 minutes: freezes", QUALITY["freezes"].text),
        ("10 minutes: blinks", QUALITY["blinks"].text),
    )
    if drift is None:
        return _missing(*aims)
    runs = drift["runs"]
    sides = [run["sides"]["one step"] for run in runs]
    long = min(run["minutes"] for run in runs)
    n = f"{len(runs)} × {long:g} min"
    side = max(sides, key=lambda each: abs(each["static_psnr_change"]))
    apart = max(sides, key=lambda each: abs(each["psnr_change"]))
    worst, error = max(
        (abs(slope["slope"]), slope["standard_error"])
        for each in sides
        for slope in each["lab_slopes_per_minute"].values()
    )
    frozen = sum(each["freezes"] for each in sides)
    blinks = sorted(each["blinks_per_minute"] for each in sides)
    change = side["static_psnr_change"]
    values = (
        (
            f"{change:+.2f} dB ({side['static_psnr_first_minute']:.1f} → {side['static_psnr_last_minute']:.1f} dB)",
            QUALITY["drift"].met(change),
        ),
        (
            f"{apart['psnr_change']:+.2f} dB ({apart['psnr_first_minute']:.1f} → {apart['psnr_last_minute']:.1f} dB)",
            QUALITY["drift"].met(apart["psnr_change"]),
        ),
        (f"{worst:.4f} ± {error:.4f}", QUALITY["colour_slope"].met(worst)),
        (f"{frozen}", QUALITY["freezes"].met(frozen)),
        (" to ".join(dict.fromkeys(f"{each:.1f}" for each in (blinks[0], blinks[-1]))),
         QUALITY["blinks"].met(blinks[0]) and QUALITY["blinks"].met(blinks[-1])),
    )  # fmt: skip
    # A shorter run says nothing about ten minutes, unless it freezes.
    return [
        Row(what, aim, reached, met if long >= 10 or (what.endswith("freezes") and frozen) else None, n)
        for (what, aim), (reached, met) in zip(aims, values, strict=True)
    ]


def _onset_rows(onset: Result | None) -> list[Row]:
    aims = (
        ("first open mouth after silence, delay beyond the steady lag to ground truth (median)", QUALITY["onset"].text),
        ("the same relative to the curves: onsets within one frame", QUALITY["onset_to_curves"].text),
    )
    if onset is None:
        return _missing(*aims)
    to_truth, to_curves = onset["one step"]["truth"], onset["one step"]["curves"]
    median = to_truth["median_beyond_steady"]
    within = to_curves["within_one_frame"]
    return [
        Row(
            *aims[0],
            "never opened" if median is None else f"{median:+.2f} frames",
            median is not None and QUALITY["onset"].met(median),
            f"{to_truth['n']} onsets",
        ),
        Row(
            *aims[1],
            "no onset" if within is None else share(within),
            within is not None and QUALITY["onset_to_curves"].met(within),
            f"{to_curves['n']} onsets",
        ),
    ]


def _identity_rows(identity: Result | None) -> list[Row]:
    aim = ("identity: nearest to its own picture among 100 characters", QUALITY["identity"].text)
    if identity is None:
        return _missing(aim)
    met = QUALITY["identity"].met(identity["nearest_is_own"])
    return [
        Row(
            *aim,
            f"{share(identity['nearest_is_own'])} (the rig's frames: {share(identity['descriptor_on_rig'])})",
            met if identity["characters"] >= 100 or not met else None,
            f"{identity['n']} frames of {identity['characters']}",
        )
    ]


def _idle_rows(idle: Result | None) -> list[Row]:
    aim = ("20 s of silence: breathes, blinks, mouth closed", "motion follows the rig's, blinks > 0")
    if idle is None:
        return _missing(aim)
    mine, rig = idle["sides"]["one step"], idle["sides"]["rig"]
    alive = mine["motion"] > mine["flicker"] and mine["life"] > 0.5 and mine["blinks"] > 0 and mine["freezes"] == 0
    return [
        Row(
            *aim,
            f"motion {mine['motion']:.2f} (rig {rig['motion']:.2f}), flicker {mine['flicker']:.2f}, follows "
            f"{mine['life']:.2f}, {mine['blinks']:.1f} of {mine['blinks_drawn']:.1f} blinks, "
            f"open {share(mine['mouth_open'])}",
            alive and QUALITY["idle_mouth_open"].met(mine["mouth_open"]),
            f"{idle['n']} frames",
        )
    ]


def _autoencoder_rows(found: Result | None) -> list[Row]:
    aims = (
        ("autoencoder alone, whole frame, one reference", QUALITY["autoencoder"].text),
        ("autoencoder alone, mouth, three references", QUALITY["mouth"].text),
        ("autoencoder alone, shut lids, three references", QUALITY["shut_lids"].text),
        ("autoencoder alone, gradient energy, three references", QUALITY["sharpness"].text),
        ("autoencoder alone, gradient energy of the mouth, three references", QUALITY["sharpness_mouth"].text),
        ("three references instead of one: mouth and shut lids, the lesser gain", QUALITY["pack"].text),
        ("autoencoder alone, ST-LPIPS", "reported"),
    )
    if found is None:
        return _missing(*aims)
    columns = [found["references"][count] for count in sorted(found["references"], key=int)]
    one, most, still, n = columns[0], columns[-1], found["still"], f"{found['n']} frames"

    def both(name: str) -> str:
        return f"{one[name]:.2f} with one"

    shut, verdict, eyes = _decibels(most["psnr_shut_lids"], "shut_lids", f"{most['shut_lids']} eyes")
    gains = [most["psnr_mouth"] - one["psnr_mouth"]]
    if most["psnr_shut_lids"] is not None:
        shut += f" ({both('psnr_shut_lids')}; the picture at rest {still['psnr_shut_lids']:.1f})"
        gains.append(most["psnr_shut_lids"] - one["psnr_shut_lids"])
    energy, energy_mouth = most["energy_share"], most["energy_share_mouth"]
    distance = one["st_lpips"]
    return [
        Row(*aims[0], f"{one['psnr']:.2f} dB (the picture at rest: {still['psnr']:.1f}; with three references "
            f"{most['psnr']:.2f})", QUALITY["autoencoder"].met(one["psnr"]), n),
        Row(*aims[1], f"{most['psnr_mouth']:.2f} dB ({both('psnr_mouth')}; the picture at rest "
            f"{still['psnr_mouth']:.1f})", QUALITY["mouth"].met(most["psnr_mouth"]), n),
        Row(*aims[2], shut, verdict, eyes),
        Row(*aims[3], f"{share(energy)} ({share(one['energy_share'])} with one)", QUALITY["sharpness"].met(energy), n),
        Row(*aims[4], f"{share(energy_mouth)} ({share(one['energy_share_mouth'])} with one)",
            QUALITY["sharpness_mouth"].met(energy_mouth), n),
        Row(*aims[5], f"{min(gains):+.2f} dB", QUALITY["pack"].met(min(gains)), n),
        Row(*aims[6], "" if distance is None else f"{distance:.4f}", None if distance is None else True, n),
    ]  # fmt: skip


def _people_rows(found: Result | None) -> list[Row]:
    aims = (
        ("rendered people held out: lips against the curves (correlation)", QUALITY["people_to_curves"].text),
        ("rendered people held out: mouth", "reported"),
    )
    if found is None or "skipped" in found:
        return _missing(*aims)
    one, true, n = found["columns"]["one step"], found["columns"].get("true frames", {}), f"{found['n']} frames"
    rows = []
    if "pcc_curves" in one:
        text = f"{one['pcc_curves']:.3f} (the true frames: {true['pcc_curves']:.3f})"
        rows.append(Row(*aims[0], text, QUALITY["people_to_curves"].met(one["pcc_curves"]), n))
    else:
        rows += _missing(aims[0])
    mouth = (f"{one['psnr_mouth']:.2f} dB, gradient energy {share(one['energy_share_mouth'])}; whole frame "
             f"{one['psnr']:.2f} dB, {share(one['energy_share'])}")  # fmt: skip
    return [*rows, Row(*aims[1], mouth, True, n)]


def _speed_rows(speed: Result | None) -> list[Row]:
    cases = (("frame", 512, 1), ("frame_of_three", 512, 3), ("small_frame", 256, 1))
    aims = [
        (f"processor time of a frame of {size}², {count} reference{'s' * (count > 1)}, one thread, median",
         QUALITY[name].text)
        for name, size, count in cases
    ]  # fmt: skip
    rows = []
    for (name, size, count), aim in zip(cases, aims, strict=True):
        found = [each for each in (speed or {}).get("configurations", ())
                 if (each["size"], each["references"]) == (size, count)]  # fmt: skip
        if not found:
            rows += _missing(aim)
            continue
        best = min(found, key=lambda each: each["processor_ms"]["p50"])
        took = best["processor_ms"]["p50"]
        text = f"{took:.1f} ms ({best['engine']}, {best['precision']})"
        rows.append(Row(*aim, text, QUALITY[name].met(took), f"{best['n']} frames"))
    return rows


def _live_rows(live: Result | None) -> list[Row]:
    """Rows from a report of `mic_to_photon.py`: server and browser on the same cores, echo cancellation on."""
    limits, rate = RENDERERS["neural"].latency(), RENDERERS["neural"].frame_rate()
    aims = [(f"live next to a browser: mic-to-photon {name}", limit.text) for name, limit in limits.items()]
    whole = ("live next to a browser: frames per second", rate.text)
    measured = [each for each in (live or {}).get("configurations", ()) if each["echo_cancellation"]]
    if live is None or not measured:
        return _missing(*aims, whole)
    numbers, settings = measured[0]["median"], live["settings"]
    n = f"{settings['runs']} × {settings['seconds']:.0f} s, {live['hardware']['cpu']}"
    total, fps = numbers["total_ms"], numbers["display"]["fps"]
    return [
        *(
            Row(*aim, f"{total[name]:.0f} ms", limits[name].met(total[name]), n)
            for aim, name in zip(aims, limits, strict=True)
        ),
        Row(*whole, f"{fps:.1f}", rate.met(fps), n),
    ]
