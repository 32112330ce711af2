"""The twelve facial action units, in the one order that holds everywhere (supplement section 4)."""

from __future__ import annotations

#: FACS numbers of the action units, upper face first.
AUS: tuple[int, ...] = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17)

UPPER_AUS: tuple[int, ...] = AUS[:6]
LOWER_AUS: tuple[int, ...] = AUS[6:]

#: The four anatomical groups of the AU feature extractor (design section 3), in AU order.
AU_GROUPS: tuple[tuple[int, ...], ...] = ((1, 2, 4), (5, 6, 7), (9, 10), (12, 14, 15, 17))

#: Facial points that each group looks at; 161 slots over 65 distinct points.
AU_GROUP_SIZES: tuple[int, ...] = (23, 48, 52, 38)

#: Distinct facial points, each the centre of one ROI patch.
POINT_COUNT = 65
