"""Names glombridge writes into QuPath projects: metadata keys, measurements, class parts.

They are a public format: scripts in QuPath and older versions of glombridge read them.
"""

from __future__ import annotations

STATE = "glombridge.state"
"""Object metadata: what the object was when glombridge wrote it: ``proposal``, ``error``, ``disagreement``."""
PROPOSAL_STATE = "proposal"
ERROR_STATE = "error"
DISAGREEMENT_STATE = "disagreement"
ERROR = "glombridge.error"
"""Object metadata of an error: ``missed``, ``false`` or ``misplaced``."""
LAYER = "glombridge.layer"
"""Object metadata: name of the layer it belongs to; absent in pushes from before there were layers."""
REVIEWER = "glombridge.reviewer"
"""Object metadata: who judged it, set by the review window in QuPath."""
REVIEWED = "glombridge.reviewed"
"""Object metadata: when, UTC as ISO 8601, set by the review window."""
SECONDS = "glombridge.seconds"
"""Object metadata: how long it stood before the reader, in seconds; absent = unknown."""
GRADED = "glombridge.graded"
"""Object metadata: name and version of the scheme every lesion of which was looked for."""
REASON = "glombridge.reason"
"""Object metadata of a proposal or disagreement: why it stands where it does in the queue."""
QUEUE = "glombridge.queue"
"""Object metadata of a proposal: strategy and seed of the queue it stands in."""
RUN = "glombridge.run"
"""Object metadata: id of the detection run that proposed it."""
MODEL = "glombridge.model"
"""Object metadata: short hash of the weights that proposed it."""
BOX = "glombridge.box"
"""Object metadata: ``true`` where the outline is only a bounding box, which never trains a segmentation."""
SEARCHED = "glombridge.searched"
"""Image metadata: set when a human has marked every glomerulus in the image."""
SEARCHED_BY = "glombridge.searched_by"
SEARCHED_AT = "glombridge.searched_at"
"""Image metadata: who said so and when (UTC), written by the review window."""

COUNTING = "glombridge.counting"
"""Image metadata: ``true`` on the one slide that counts for its case, ``distinct`` on slides that show
different tissue; absent = nothing is declared."""

CONFIDENCE = "Confidence"
"""Measurement: the detector's score, 0 to 1."""
PROBABILITY = "Probability"
"""Measurement: what share of the detections with this score were objects on the validation slides, 0 to 1;
absent where the weights have no calibration."""
SCORE_SD = "Confidence sd over flips"
"""Measurement: standard deviation of the score over mirrored looks, where the run took them."""
QUEUE_RANK = "Queue rank"
"""Measurement of a proposal: its place in the queue over all images, 1 is first."""
LESION = "Lesion: "
"""Beginning of the measurement of a lesion: 0 = looked for and absent, 1 or a grade = present."""
DIAMETER_UM = "Diameter um"
"""Measurement: mean of the box's width and height, in micrometres."""

AREA_UM2 = "Area um2"
"""Measurement: area of the outline, in square micrometres; none where the outline is only a box."""

DISAGREEMENT_CLASS = "Disagreement"
"""Class of objects that show in QuPath what two readers see differently."""
ERROR_CLASSES = ("Missed", "False", DISAGREEMENT_CLASS)
"""Classes of objects that show a detector's errors or readers' disagreements; they are never truth."""

PROPOSED = "Proposed"
"""Leaf of the class a proposal carries, below its truth class: ``Glomerulus: Proposed``."""
