"""SOURCES: name on the command line -> (module, class). A plain dict; a test checks that every file is in it."""

SOURCES: dict[str, tuple[str, str]] = {
    "atari": ("framecast.data.synthetic.atari", "Atari"),
    "ball": ("framecast.data.synthetic.ball", "Ball"),
    "bouncing": ("framecast.data.synthetic.bouncing", "Bouncing"),
    "crossroads": ("framecast.data.synthetic.crossroads", "Crossroads"),
    "paddle": ("framecast.data.synthetic.paddle", "Paddle"),
    "maze": ("framecast.data.synthetic.maze", "Maze"),
    "pushing": ("framecast.data.synthetic.pushing", "Pushing"),
    "walking": ("framecast.data.synthetic.walking", "Walking"),
    "moving-mnist": ("framecast.data.synthetic.moving_mnist", "MovingMnist"),
    "moving-objects": ("framecast.data.synthetic.moving_objects", "MovingObjects"),
    "shapes": ("framecast.data.synthetic.shapes", "Shapes"),
}
