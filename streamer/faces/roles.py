"""Determines a picture's role in a pack: by its file name or by the expression of its face.

Letters used in shapes: H, W the picture's edges.
"""

import re
from typing import Literal, get_args

from streamer.faces.expression import Expression

Role = Literal["neutral", "mouth_open", "teeth", "eyes_shut", "smile", "look_aside"]
ROLES: tuple[Role, ...] = get_args(Role)

SAYS: dict[Role, str] = {
    "neutral": "neutral",
    "mouth_open": "mouth open",
    "teeth": "teeth",
    "eyes_shut": "eyes shut",
    "smile": "smile",
    "look_aside": "look aside",
}
"""Names of the roles for people."""

_STATE = r"(open|opened|closed?|shut)"
_PAIR = re.compile(rf"\b(eyes?|mouth|lips?) ?(?:is |are )?{_STATE}\b|\b{_STATE} ?(eyes?|mouth|lips?)\b")
_WORDS: tuple[tuple[Role, str], ...] = (
    ("eyes_shut", r"eyesshut|blink\w*|asleep|sleep\w*"),
    ("teeth", r"teeth|tooth|grin\w*"),
    ("mouth_open", r"mouthopen|talk\w*|speak\w*|open|shout\w*|yell\w*|aa+h?"),
    ("look_aside", r"look(?:s|ing)?|gaz(?:e|es|ing)|glanc\w+|aside|side ?eye"),
    ("smile", r"smil\w+|happy|joy\w*"),
    ("neutral", r"mouthshut|eyesopen|closed|shut|neutral|idle|rest|resting|default|normal|base"
                r"|quiet|silent|silence|mute|muted|calm|still"),
)  # fmt: skip

GAP = 0.05  # how much farther apart than in the neutral picture (eye distances) lips of an open mouth are
SHOWN_GAP = 0.03  # minimum gap that shows teeth
TEETH = 0.45  # fraction of the opening
SHUT = 0.5  # relative to the neutral picture's lid opening
ASIDE = 0.075  # eye widths
SMILE = 0.035
TURN = 0.25  # radians: if turned farther than this relative to the neutral face, a face's parts do not fit well


def role_by_name(name: str) -> Role | None:
    """The role implied by a file name, or None.

    Recognises the usual terms of PNG-tubers, as whole words in any case, separated by `_`, `-`, digits or capitals:

    - eyes_shut: blink, blinking, eyes closed, eyes shut, closed eyes, asleep, sleep, sleeping
    - teeth: teeth, tooth, grin
    - mouth_open: talk, talking, speak, speaking, open, mouth open, open mouth, shout, yell, aah
    - look_aside: look, looking, gaze, glance, aside, side eye
    - smile: smile, smiling, happy, joy
    - neutral: neutral, idle, rest, default, normal, base, closed, mouth closed, quiet, silent, mute, calm, still

    If several match, the first in this order counts: `talk_blink` has its eyes shut, `happy_idle` smiles.
    """
    stem = re.sub(r"\.\w{2,5}$", "", name.replace("\\", "/").rsplit("/", 1)[-1])
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem)
    words = " ".join(re.sub(r"[^a-z]+", " ", words.lower()).split())
    words = _PAIR.sub(_paired, words)  # left to right: `mouth open eyes closed` has no open eyes
    for role, pattern in _WORDS:
        if re.search(rf"\b(?:{pattern})\b", words):
            return role
    return None


def _paired(found: re.Match[str]) -> str:
    part, state = found[1] or found[4], found[2] or found[3]
    return ("eyes" if part.startswith("eye") else "mouth") + ("open" if state.startswith("open") else "shut")


def smile_of(seen: Expression) -> float:
    """Smile strength, comparable within one face: how far the corners rise and part. An open mouth is not a smile."""
    return seen.corners - 0.2 * seen.gap + 0.5 * seen.mouth_width


def strength(role: Role, seen: Expression, neutral: Expression) -> float:
    """How strongly a face shows a role's expression, relative to the neutral picture; 1 is sufficient."""
    if role == "neutral":
        return -unrest(seen, neutral)
    if role == "eyes_shut":
        closed = 1 - seen.lids / max(neutral.lids, 1e-6)
        return closed / (1 - SHUT) - max(0.0, seen.gap - neutral.gap)
    if role == "teeth":
        return seen.teeth / TEETH * min(1.0, seen.gap / SHOWN_GAP)
    if role == "mouth_open":
        return (seen.gap - neutral.gap) / GAP
    if role == "smile":
        return (smile_of(seen) - smile_of(neutral)) / SMILE
    return abs(seen.gaze[0] - neutral.gaze[0]) / ASIDE


def role_by_face(seen: Expression, neutral: Expression) -> Role | None:
    """The role that a face suits, relative to the neutral one; None if it shows nothing new."""
    if strength("eyes_shut", seen, neutral) >= 1:
        return "eyes_shut"
    if seen.gap - neutral.gap >= SHOWN_GAP and strength("teeth", seen, neutral) >= 1:
        return "teeth"
    if strength("mouth_open", seen, neutral) >= 1:
        return "mouth_open"
    if abs(seen.yaw - neutral.yaw) <= TURN and strength("look_aside", seen, neutral) >= 1:
        return "look_aside"
    if strength("smile", seen, neutral) >= 1:
        return "smile"
    return None


def unrest(seen: Expression, calmest: Expression) -> float:
    """Distance of a face from neutral, 0 and up: mouth open, eyes less open, looking or turned aside, smiling.

    `calmest` is the face's expected rest: its usual lids and gaze, its least smile.
    """
    return (
        8 * max(0.0, seen.gap - 0.02)
        + 2 * max(0.0, 0.9 - seen.lids / max(calmest.lids, 1e-6))
        + 2 * max(0.0, abs(seen.gaze[0] - calmest.gaze[0]) - 0.02)
        + abs(seen.yaw)
        + 6 * max(0.0, smile_of(seen) - smile_of(calmest))
    )
