"""Synthetic labelled documents of a chosen difficulty, for samples and tests; no figure on them speaks of a model.

Every class prefers its own few words of one shared English vocabulary. Neighbouring classes share some of them, most
words of a document come from the vocabulary common to all, and some labels are wrong, so that no method scores 100%.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from random import Random

_NOUNS = """
account acid action actuator adapter adhesive agent air alloy amount analysis anchor angle antenna apparatus area arm
array article assembly axis bag ball band bank bar barrier base basin battery beam bearing bed belt bend blade blank
block board body bolt bond border bottle bottom bracket branch bridge brush bucket buffer bundle burner bus button cable
cage cam camera canal cap capsule carbon card cargo carrier cart case cask catalyst cavity cell chain chamber channel
charge chart chip circuit clamp clip clock cloth clutch coach coast coating code coil collar column compound compressor
conductor cone contact container control converter cooler copper cord core cork corner cotton counter coupling cover
crane crank crop cross crystal cup current curtain curve cushion cutter cylinder dam deck depth detector device dial
diode disc dish display dock domain door dose drain drawer drill drive drum duct dust dye edge elbow electrode element
engine enzyme exchange fabric fan farm fastener feed fence fiber field filament film filter fin finger fire flame flange
flap flask flight float floor flow fluid foam foil fold force forest fork frame frequency fuel furnace fuse gap garden
gas gate gauge gear gel girder glass glove goal grain gravel grid grinder grip groove ground guard guide gum hammer
handle harbor hat head heat heel helmet hinge holder hole hood hook hopper horn horse hose host hub hull ice image index
ink inlet insert iron jacket jar jaw jet joint judge juice kernel kettle key kiln knife knob label ladder lake lamp lane
laser latch lawn layer leaf leather leg lens letter lever lid light lime limit line link liquid lock loom loop magnet
mantle market mask mast mat matrix meal member membrane mesh metal meter milk mill mineral mirror mixer model module
mortar motor mount mouth needle nerve net nickel node nozzle nut oil opening orbit ore outlet oven oxide packet pad
paint panel paper park paste patch path pattern pedal pen phase pin pipe piston pit plane plant plate player plow plug
pocket point pole polymer pool port post pot powder press print probe profile protein pulley pulse pump punch rack rail
ramp range ratio reactor receiver recess record reel region relay resin rib ring river road robot rod roller roof room
root rope rotor rubber rudder sail salt sand saw scale screen screw seal seat seed sensor shaft sheet shell shield ship
shoe shutter signal silk sink skin sleeve slide slot slurry soap socket soil sole spacer spark spindle spool spray
spring stack stage steam steel stem step stone storage strap stream strip surface switch table tank tape target tank
tension terminal thread tile timber tip tool tooth torch tower track trailer tray trench tube tunnel turbine valve vane
vapor vault vehicle vent vessel video wall warp washer water wave wax web weight weld wheel wheat winch window wing wire
wood wool yarn yoke zinc zone
"""

_FUNCTION_WORDS = """
the of a and to in is for with by from on at that which said one or first second between after when each its other more
has are be into under over said such may also can been within
"""
_VOCABULARY = sorted(set(_NOUNS.split()))
_COMMON = _FUNCTION_WORDS.split()


@dataclass(frozen=True)
class Difficulty:
    """How hard the classes are to tell apart.

    signal: share of a document's words that come from its classes' own words.
    own_words: how many words a class prefers; shared: how many of them the next class prefers too.
    noise: share of documents that carry the labels of another document's draw.
    imbalance: class i (from 0) is drawn with weight (i + 1) ** -imbalance.
    shortest, longest: document length in words, drawn uniformly.
    second_label: chance that a document has one more class (multi-label only), again and again.
    """

    signal: float = 0.2
    own_words: int = 24
    shared: int = 10
    noise: float = 0.06
    imbalance: float = 0.3
    shortest: int = 20
    longest: int = 45
    second_label: float = 0.0


@dataclass(frozen=True)
class SyntheticDocument:
    """sentences: lower-case words, no punctuation; classes: indices as labelled, the main one first."""

    sentences: tuple[str, ...]
    classes: tuple[int, ...]


def generate(classes: int, documents: int, difficulty: Difficulty, seed: int) -> Iterator[SyntheticDocument]:
    """``documents`` documents over ``classes`` classes, the same for the same arguments on every machine."""
    random = Random(seed)
    # The words of a class depend on the class alone, so that two calls with other seeds draw from the same classes.
    own = _class_words(classes, difficulty)
    cumulative = list(accumulate((index + 1) ** -difficulty.imbalance for index in range(classes)))
    for _ in range(documents):
        true = _draw_classes(random, cumulative, difficulty.second_label)
        words = [
            random.choice(own[random.choice(true)]) if random.random() < difficulty.signal else _background(random)
            for _ in range(random.randint(difficulty.shortest, difficulty.longest))
        ]
        wrong = random.random() < difficulty.noise
        labelled = _draw_classes(random, cumulative, difficulty.second_label) if wrong else true
        yield SyntheticDocument(tuple(_sentences(random, words)), tuple(labelled))


def _class_words(classes: int, difficulty: Difficulty) -> list[list[str]]:
    pool = Random(0).sample(_VOCABULARY, len(_VOCABULARY))
    step = difficulty.own_words - difficulty.shared
    return [[pool[(index * step + i) % len(pool)] for i in range(difficulty.own_words)] for index in range(classes)]


def _draw_classes(random: Random, cumulative: list[float], second_label: float) -> list[int]:
    indices = range(len(cumulative))
    drawn = random.choices(indices, cum_weights=cumulative)
    while len(drawn) < len(cumulative) and random.random() < second_label:
        drawn += random.choices(indices, cum_weights=cumulative)
    return list(dict.fromkeys(drawn))


def _background(random: Random) -> str:
    return random.choice(_COMMON) if random.random() < 0.5 else random.choice(_VOCABULARY)


def _sentences(random: Random, words: list[str]) -> Iterator[str]:
    start = 0
    while start < len(words):
        end = start + random.randint(8, 16)
        yield " ".join(words[start:end])
        start = end
