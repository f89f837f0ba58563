"""Where a face lies in the square it is cut out to: what is erased is what is pasted over.

To half a pixel, that is: `conditions` counts pixels from their index, as the shipped networks
learned it, and what pastes from their centres.
"""

FACE_PX = 128
"""Side of the square."""

CENTRE_PX, RADII_PX = (64.0, 70.0), (42.0, 52.0)
"""Of the upright ellipse, (x, y), that holds everything which tells whose face it is."""

LANDMARKS = ((48.5, 60.0), (79.6, 60.0), (63.4, 78.8), (49.8, 91.9), (78.4, 91.9))
"""Where an aligned face has its eyes, nose and mouth's corners: medians of what MTCNN finds in 300
portraits with the eyes at (48, 60) and (80.5, 60), so that pictures cut out by it lie as those."""

BOX = (31.9, 24.0, 97.2, 115.3)
"""The box that it puts around them, (left, top, right, bottom), likewise."""
