"""Where a face lies in the square it is cut out to: what is erased is what is pasted over."""

FACE_PX = 128
"""Side of the square."""

CENTRE_PX, RADII_PX = (64.0, 70.0), (42.0, 52.0)
"""Of the upright ellipse, (x, y), that holds everything which tells whose face it is."""

BOX = (31.9, 24.0, 97.2, 115.3)
"""The box that MTCNN puts around an aligned face, (left, top, right, bottom)."""
