"""Assembles the parts, back to front."""

from streamer.studio.character import Character
from streamer.studio.draw import accessories, body, emotion_marks, eyes, garments, hair, hands, head, latches, mouth
from streamer.studio.draw.anatomy import Anatomy
from streamer.studio.draw.palette import alpha
from streamer.studio.draw.sketch import Sketch
from streamer.studio.draw.skin import points3


def portrait(character: Character, size: int, straight: bool) -> Anatomy:
    """The character's sketch, ready to draw, with its key points."""
    a = Anatomy(Sketch(size, straight), character)
    s = a.sketch
    latches.choose(a)
    emotion_marks.choose(a)
    locks = hair.dress(a)
    cut, tailor = garments.garment(a), garments.Tailor(a)
    for stroke in locks.back:
        s.draw_stroke(stroke)
    if cut.back:
        with tailor.wearing(latches.hood(a)):
            cut.back(tailor)
    body.neck_and_shoulders(a)
    cut.front(tailor)
    accessories.wear(a, accessories.NECKWEAR, "neckwear")
    for stroke in locks.behind:
        s.draw_stroke(stroke)
    if not accessories.ears_over(a):
        accessories.wear(a, accessories.HEADWEAR_BEHIND, "headwear")
    head.ears(a)
    accessories.earrings(a)
    face = head.face(a)
    with s.group(face):
        casting = [stroke for stroke in locks.front if stroke.casts]
        shadows = [points3(path) + (0.0, 0.045, 0.0) for stroke in casting for path in stroke.paths]
        if shadows:
            parts = [part for stroke in casting for part in stroke.parts or [None] * len(stroke.paths)]
            shade = s.outline(shadows, hair.flowing(), parts=parts)
            s.paint(shade, alpha(a.skin.shadow, 0.9))
        latches.lock_shadow(a)
    head.contour(a, face)
    head.beard(a)
    mouth.mouth(a)
    eyes.eyes(a)
    eyes.brow_outlines(a)
    eyes.paint_brows(a, 1.0)
    emotion_marks.over_face(a)
    accessories.wear(a, accessories.EYEWEAR, "eyewear")
    for stroke in locks.front:
        s.draw_stroke(stroke)
    latches.lock(a, locks)
    eyes.paint_brows(a, 0.5)
    for stroke in locks.top:
        s.draw_stroke(stroke)
    if accessories.ears_over(a):
        accessories.wear(a, accessories.HEADWEAR_BEHIND, "headwear")
    accessories.wear(a, accessories.HEADWEAR, "headwear")
    emotion_marks.over_hair(a)
    hands.hands(a, *cut.sleeve_and_cuff(a))
    s.finish(a.rng("dynamics"))
    return a
