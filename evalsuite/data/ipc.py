"""The International Patent Classification: what its sections and classes are about, in short words of our own."""

from __future__ import annotations

LEVELS = {"section": 1, "class": 3, "subclass": 4, "group": 7}
"""Level -> how many characters of a code name it (D01D00106 is section D, class D01, subclass D01D, group D01D001)."""

SECTIONS = {
    "A": "human necessities",
    "B": "performing operations, transporting",
    "C": "chemistry, metallurgy",
    "D": "textiles, paper",
    "E": "fixed constructions",
    "F": "mechanical engineering, lighting, heating, weapons, blasting",
    "G": "physics",
    "H": "electricity",
}

_CLASSES = """
A01 agriculture, forestry, animal husbandry, hunting, fishing
A21 baking, dough
A22 butchering, meat and fish processing
A23 foods and their treatment
A24 tobacco, smoking articles
A41 clothing
A42 headwear
A43 footwear
A44 haberdashery, jewellery
A45 hand articles, travelling articles
A46 brushes
A47 furniture, household articles, kitchen equipment
A61 medical and veterinary science, hygiene
A62 life-saving, fire-fighting
A63 sports, games, amusements
A99 other human necessities
B01 physical and chemical processes and apparatus
B02 crushing, grinding, milling of grain
B03 separating solids with liquids, magnetic and electrostatic separation
B04 centrifuges for physical and chemical processes
B05 spraying, applying liquids to surfaces
B06 generating mechanical vibrations
B07 sorting and separating solids
B08 cleaning
B09 disposal of solid waste, reclaiming soil
B21 metal working without removing material, punching
B22 casting, powder metallurgy
B23 machine tools, metal working not elsewhere provided for
B24 grinding, polishing
B25 hand tools, power tools, manipulators
B26 cutting tools, severing
B27 working and preserving wood
B28 working cement, clay and stone
B29 working plastics
B30 presses
B31 making paper articles, working paper
B32 layered products
B33 additive manufacturing
B41 printing, typewriters, stamps
B42 bookbinding, albums, files
B43 writing and drawing implements
B44 decorative arts
B60 vehicles in general
B61 railways
B62 land vehicles other than on rails
B63 ships
B64 aircraft, aviation, cosmonautics
B65 conveying, packing, storing, thin material
B66 hoisting, lifting, hauling
B67 opening and closing bottles, handling liquids
B68 saddlery, upholstery
B81 microstructural technology
B82 nanotechnology
B99 other operations and transport
C01 inorganic chemistry
C02 treatment of water and sewage
C03 glass, mineral wool
C04 cement, concrete, ceramics
C05 fertilisers
C06 explosives, matches
C07 organic chemistry
C08 organic macromolecular compounds
C09 dyes, paints, adhesives
C10 petroleum, gas, coke, fuels, lubricants
C11 oils, fats, detergents, candles
C12 biochemistry, beer, spirits, wine, genetic engineering
C13 sugar industry
C14 skins, hides, leather
C21 metallurgy of iron
C22 metallurgy, alloys
C23 coating metallic material, preventing corrosion
C25 electrolysis
C30 crystal growth
C40 combinatorial technology
C99 other chemistry and metallurgy
D01 threads and fibres, spinning
D02 yarns, warping
D03 weaving
D04 braiding, lace, knitting, non-woven fabrics
D05 sewing, embroidering, tufting
D06 treatment of textiles, laundering
D07 ropes, cables other than electric
D21 paper-making, cellulose
D99 other textiles and paper
E01 roads, railways, bridges
E02 hydraulic engineering, foundations
E03 water supply, sewerage
E04 building
E05 locks, keys, window and door fittings, safes
E06 doors, windows, shutters, ladders
E21 earth drilling, mining
E99 other fixed constructions
F01 machines and engines in general, steam engines
F02 combustion engines
F03 machines and engines for liquids, wind and spring motors
F04 pumps
F15 fluid-pressure actuators, hydraulics, pneumatics
F16 machine elements, valves, pipes
F17 storing and distributing gases and liquids
F21 lighting
F22 steam generation
F23 combustion apparatus
F24 heating, ranges, ventilating
F25 refrigeration, heat pumps
F26 drying
F27 furnaces, kilns
F28 heat exchange
F41 weapons
F42 ammunition, blasting
F99 other mechanical engineering
G01 measuring, testing
G02 optics
G03 photography, cinematography, holography
G04 clocks and watches
G05 controlling, regulating
G06 computing, counting
G07 checking devices
G08 signalling
G09 education, advertising, displays
G10 musical instruments, acoustics
G11 information storage
G12 instrument details
G16 informatics for particular fields
G21 nuclear physics and engineering
G99 other physics
H01 basic electric elements
H02 electric power generation, conversion, distribution
H03 basic electronic circuitry
H04 electric communication
H05 other electric techniques
H10 semiconductor devices
H99 other electricity
"""

CLASSES = dict(line.split(" ", 1) for line in _CLASSES.strip().splitlines())
_TITLES = {**SECTIONS, **CLASSES}


def describe(code: str) -> str:
    """What a code stands for, "" if unknown. Below the classes: title of the class, and code, so that none agree."""
    length = next((length for length in (LEVELS["class"], LEVELS["section"]) if code[:length] in _TITLES), 0)
    title = _TITLES.get(code[:length], "")
    return f"{title} ({code})" if title and length < len(code) else title
