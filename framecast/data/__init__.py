"""SOURCES: name on the command line -> (module, class). A plain dict; a test checks that every file is in it."""

SOURCES: dict[str, tuple[str, str]] = {
    "atari": ("framecast.data.atari", "Atari"),
    "ball": ("framecast.data.ball", "Ball"),
    "bouncing": ("framecast.data.bouncing", "Bouncing"),
    "crossroads": ("framecast.data.crossroads", "Crossroads"),
    "pushing": ("framecast.data.pushing", "Pushing"),
    "walking": ("framecast.data.walking", "Walking"),
    "moving-objects": ("framecast.data.moving_objects", "MovingObjects"),
    "shapes": ("framecast.data.shapes", "Shapes"),
}
