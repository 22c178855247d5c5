"""LeRobot datasets laid out by the published format: frames, rows and cameras of each episode match."""

import io
import json
from fractions import Fraction

import av
import numpy as np
import pytest
from films import HEIGHT, WIDTH, numbered, numbers
from PIL import Image

from framecast.core.errors import UserError
from framecast.data.lerobot_writer import write_lerobot
from framecast.data.open import open_path
from framecast.data.options import ReadOptions
from framecast.data.store import DatasetWriter, Store, pack

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

LENGTHS = (12, 9, 14)  # frames of the episodes; the first two share their files
FEATURES = {
    "action": {"dtype": "float32", "shape": [2], "names": {"motors": ["x", "y"]}},
    "observation.state": {"dtype": "float32", "shape": [3], "names": ["a", "b", "c"]},
    "next.reward": {"dtype": "float32", "shape": [1], "names": None},
}


def mp4(path, frames, codec="libx264", pts=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"g": "2", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)), format="rgb24")
            frame.pts, frame.time_base = i if pts is None else pts[i], Fraction(1, 10)
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode())


def parquet(path, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def rows(episode, start):
    """Columns of one episode: actions count frames of the whole dataset; timestamps drift."""
    steps = np.arange(LENGTHS[episode])
    drift = 1 + 0.004 * np.sin(steps)
    return {
        "action": [[float(start + i), -1.0] for i in steps],
        "observation.state": [[float(i), 0.0, 1.0] for i in steps],
        "next.reward": (steps / 2).astype(np.float32).tolist(),
        "timestamp": (steps / 10 * drift).astype(np.float32).tolist(),
        "frame_index": steps.tolist(),
        "episode_index": [episode] * len(steps),
        "index": (start + steps).tolist(),
        "task_index": [0] * len(steps),
    }


def build(root, cameras=("top", "wrist"), version="v3.0", splits=None, codec="libx264", **changes):
    """A dataset of three episodes whose pictures carry their number over the whole dataset."""
    starts = [0, *np.cumsum(LENGTHS[:-1]).tolist()]
    pictures = numbered(sum(LENGTHS))
    keys = [f"observation.images.{camera}" for camera in cameras]
    video = {"dtype": "video", "shape": [HEIGHT, WIDTH, 3], "names": ["height", "width", "channels"]}
    info = {
        "codebase_version": version,
        "fps": 10,
        "robot_type": "so100",
        "features": {**FEATURES},
        "chunks_size": 1000,
    }
    info["features"] |= {key: video for key in keys} | changes
    info["splits"] = splits or {"train": "0:3"}
    all_rows = [rows(episode, start) for episode, start in enumerate(starts)]
    if version == "v3.0":
        info["data_path"] = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        info["video_path"] = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        joined = {name: all_rows[0][name] + all_rows[1][name] for name in all_rows[0]}
        parquet(root / "data/chunk-000/file-000.parquet", joined)
        parquet(root / "data/chunk-000/file-001.parquet", all_rows[2])
        for key in keys:
            cut = starts[2]
            mp4(root / f"videos/{key}/chunk-000/file-000.mp4", pictures[:cut], codec)
            mp4(root / f"videos/{key}/chunk-000/file-001.mp4", pictures[cut:], codec)
        files, begins = [0, 0, 1], [0.0, 1.2000001, 0.0]
        columns = {"episode_index": [0, 1, 2], "length": list(LENGTHS), "tasks": [["pick"], ["pick"], ["place"]]}
        columns |= {"data/chunk_index": [0] * 3, "data/file_index": files}
        for key in keys:
            columns |= {f"videos/{key}/chunk_index": [0] * 3, f"videos/{key}/file_index": files}
            columns |= {f"videos/{key}/from_timestamp": begins}
        parquet(root / "meta/episodes/chunk-000/file-000.parquet", columns)
    else:
        for episode, start in enumerate(starts):
            parquet(root / f"data/chunk-000/episode_{episode:06d}.parquet", all_rows[episode])
            for key in keys:
                film = pictures[start : start + LENGTHS[episode]]
                mp4(root / f"videos/chunk-000/{key}/episode_{episode:06d}.mp4", film, codec)
        lines = [json.dumps({"episode_index": i, "tasks": ["pick"], "length": n}) for i, n in enumerate(LENGTHS)]
        (root / "meta").mkdir(parents=True, exist_ok=True)
        (root / "meta" / "episodes.jsonl").write_text("\n".join(lines))
    (root / "meta" / "info.json").write_text(json.dumps(info))
    return root


def check(source, cameras):
    starts = [0, *np.cumsum(LENGTHS[:-1]).tolist()]
    assert len(source) == 3 * cameras
    for index, (length, name) in enumerate(zip(source.lengths, source.names, strict=True)):
        start = starts[index // cameras]
        clip = source.clip(index, 0, length)
        assert numbers(clip.frames) == list(range(start, start + length)), name
        assert clip.arrays["actions"][:, 0].tolist() == list(range(start, start + length))
        assert clip.arrays["states"].shape == (length, 3)
        assert clip.arrays["rewards"].tolist() == (np.arange(length) / 2).tolist()
        part = source.clip(index, 3, 3, stride=2)
        assert numbers(part.frames) == [start + 3, start + 5, start + 7]
        assert part.arrays["actions"][:, 0].tolist() == [start + 3, start + 5, start + 7]


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_episodes_cameras_and_rows(tmp_path, version):
    source = open_path(build(tmp_path, version=version))
    check(source, 2)
    assert source.names[:2] == ["episode-000000/top", "episode-000000/wrist"]
    assert source.spec.actions.names == ("x", "y")
    assert source.spec.fps == 10
    assert source.clip(0, 0, 1).meta["task"] == "pick"
    splits = source.splits(2)
    for split in splits.values():
        episodes = [source.groups[source.names[s.video]] for s in split]
        assert all(episodes.count(e) == 2 for e in episodes)  # no camera of an episode in another split


def change(file, **columns):
    table = pq.read_table(file).to_pydict()
    parquet(file, {**table, **columns})


@pytest.mark.parametrize(("what", "count"), [("episodes", 5), ("episodes", 2), ("frames", 99)])
def test_counts_that_differ_from_the_list_of_episodes_are_refused(tmp_path, what, count):
    root = build(tmp_path, cameras=("top",), version="v2.1")
    file = root / "meta" / "info.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), f"total_{what}": count}))
    with pytest.raises(UserError, match=rf"promises {count} {what}, meta/episodes lists"):
        open_path(root)
    check(open_path(root, ReadOptions(skip_bad=True)), 1)


def test_camera_that_did_not_record_an_episode(tmp_path):
    root = build(tmp_path)
    place = {"chunk_index": [0, None, 0], "file_index": [0, None, 1], "from_timestamp": [0.0, None, 0.0]}
    columns = {f"videos/observation.images.wrist/{part}": values for part, values in place.items()}
    change(root / "meta/episodes/chunk-000/file-000.parquet", **columns)
    with pytest.raises(UserError, match=r"episode 1 has no video of camera 'observation\.images\.wrist'"):
        open_path(root)
    source = open_path(root, ReadOptions(skip_bad=True))
    assert source.meta()["skipped"] == ["episode-000001/wrist"]
    assert numbers(source.clip(source.names.index("episode-000002/wrist"), 0, 14).frames) == list(range(21, 35))


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (
            {"frame_index": [*range(11), 12, *range(9)]},
            "episode 0: row 11 is that of frame 12, so that rows are missing",
        ),
        ({"frame_index": [*range(12), 0, 1, 1, *range(3, 9)]}, "episode 1: row 2 is that of frame 1"),
        (
            {"observation.state": [[0.0, 1.0, 2.0]] * 15 + [[0.0, float("nan"), 2.0]] * 6},
            "states is not a finite number",
        ),
        ({"action": [[1.0], [1.0, 2.0, 3.0], *([[1.0, 2.0]] * 19)]}, "'action' has rows of different lengths"),
        ({"action": [None, *([[1.0, 2.0]] * 20)]}, "'action' has rows of different lengths"),
        ({"next.reward": [None, *([1.0] * 20)]}, "'next.reward' has empty cells"),
    ],
)
def test_rows_that_are_not_one_finite_row_per_frame_are_refused(tmp_path, columns, sentence):
    root = build(tmp_path, cameras=("top",))
    change(root / "data/chunk-000/file-000.parquet", **columns)
    with pytest.raises(UserError, match=sentence):
        open_path(root)
    source = open_path(root, ReadOptions(skip_bad=True))
    assert source.names[-1] == "episode-000002"
    assert len(source.names) + len(source.meta()["skipped"]) == 3


@pytest.mark.parametrize(
    "place", ["data/chunk-000/file-000.parquet", "videos/observation.images.top/chunk-000/file-000.mp4"]
)
def test_only_episodes_of_a_damaged_file_are_left_out(tmp_path, place):
    root = build(tmp_path, cameras=("top",))
    (root / place).write_bytes(b"nothing")
    source = open_path(root, ReadOptions(skip_bad=True))
    assert (source.names, source.meta()["skipped"]) == (["episode-000002"], ["episode-000000", "episode-000001"])
    assert numbers(source.clip(0, 0, 14).frames) == list(range(21, 35))


def test_episode_listed_twice_and_another_rate_are_refused(tmp_path):
    root = build(tmp_path, cameras=("top",))
    with pytest.raises(UserError, match="holds a LeRobot dataset, whose rate is fixed"):
        open_path(root, ReadOptions(fps=5))
    change(root / "meta/episodes/chunk-000/file-000.parquet", episode_index=[0, 1, 1])
    with pytest.raises(UserError, match="lists episode 1 2 times"):
        open_path(root)


def test_av1_and_prescribed_splits(tmp_path):
    splits = {"train": "0:1", "val": "1:2", "test": "2:3"}
    source = open_path(build(tmp_path, cameras=("top",), splits=splits, codec="libsvtav1"))
    check(source, 1)
    assert source.fixed == {"episode-000000": "train", "episode-000001": "val", "episode-000002": "test"}


def test_last_timestamp_beyond_the_end_repeats_the_last_picture(tmp_path):
    build(tmp_path, cameras=("top",))
    pictures, cut = numbered(sum(LENGTHS)), sum(LENGTHS[:2])
    mp4(tmp_path / "videos/observation.images.top/chunk-000/file-001.mp4", pictures[cut:-1])
    source = open_path(tmp_path)
    expected = [*range(cut, sum(LENGTHS) - 1), sum(LENGTHS) - 2]
    assert numbers(source.clip(2, 0, LENGTHS[2]).frames) == expected
    assert numbers(source.clip(2, LENGTHS[2] - 1, 1).frames) == expected[-1:]
    mp4(tmp_path / "videos/observation.images.top/chunk-000/file-001.mp4", pictures[cut:-4])
    with pytest.raises(UserError, match=r"file-001\.mp4 has 10 pictures, too few for episode 2"):
        open_path(tmp_path)
    assert len(open_path(tmp_path, ReadOptions(skip_bad=True))) == 2


def test_pictures_are_taken_by_number_where_timestamps_leave_gaps(tmp_path):
    build(tmp_path, cameras=("top",))
    pictures, cut = numbered(sum(LENGTHS)), sum(LENGTHS[:2])
    gaps = [i + (i >= 4) + (i >= 15) for i in range(cut)]
    mp4(tmp_path / "videos/observation.images.top/chunk-000/file-000.mp4", pictures[:cut], pts=gaps)
    check(open_path(tmp_path), 1)


def test_table_without_a_column_is_refused(tmp_path):
    file = build(tmp_path, cameras=("top",)) / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["frame_index"]), file)
    with pytest.raises(UserError, match="has no column frame_index"):
        open_path(tmp_path)


def test_images_in_the_tables(tmp_path):
    root = build(tmp_path, cameras=(), **{"observation.image": {"dtype": "image", "shape": [HEIGHT, WIDTH, 3]}})
    pictures = numbered(sum(LENGTHS))
    for name in ("file-000", "file-001"):
        file = root / f"data/chunk-000/{name}.parquet"
        table = pq.read_table(file)
        images = []
        for number in table["index"].to_pylist():
            stream = io.BytesIO()
            Image.fromarray(pictures[number].transpose(1, 2, 0)).save(stream, "PNG")
            images.append({"bytes": stream.getvalue(), "path": None})
        pq.write_table(table.append_column("observation.image", pa.array(images)), file)
    check(open_path(root), 1)


def test_depth_other_versions_and_missing_files_are_refused(tmp_path):
    depth = {"dtype": "video", "shape": [HEIGHT, WIDTH, 1], "info": {"video.is_depth_map": True}}
    root = build(tmp_path / "a", cameras=("top",), **{"observation.images.depth": depth})
    with pytest.raises(UserError, match=r"feature 'observation\.images\.depth' is a depth map"):
        open_path(root)
    root = build(tmp_path / "b", cameras=("top",))
    info = json.loads((root / "meta" / "info.json").read_text())
    for change, sentence in (
        ({"codebase_version": "v1.6"}, "has version 'v1.6', expected v2.0, v2.1 or v3.0"),
        ({"video_path": "../../{video_key}.mp4"}, "outside the dataset"),
        ({"fps": 0}, "no valid fps"),
    ):
        (root / "meta" / "info.json").write_text(json.dumps({**info, **change}))
        with pytest.raises(UserError, match=sentence):
            open_path(root)
    (root / "meta" / "info.json").write_text(json.dumps(info))
    (root / "data/chunk-000/file-001.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(UserError, match=r"file-001\.parquet is damaged"):
        open_path(root)


def test_written_datasets_read_back(tmp_path):
    pictures = numbered(60)
    with DatasetWriter(tmp_path / "store", fps=10) as writer:
        for episode in range(4):
            part = pictures[15 * episode : 15 * episode + 15]
            for camera in ("left", "right"):
                writer.add(
                    part,
                    (np.arange(30).reshape(15, 2) + episode).astype(np.float32),
                    np.full((15, 1), episode, np.float32),
                    {"task": f"task {episode % 2}"},
                    f"{episode}-{camera}",
                    episode=str(episode),
                    camera=camera,
                    terminated=np.arange(15) == 14,
                )
    folder = write_lerobot(Store(tmp_path / "store"), tmp_path / "out")
    source = open_path(folder)
    assert sorted(set(source.fixed.values())) == ["test", "train", "val"]
    seen = set()
    for index, name in enumerate(source.names):
        clip = source.clip(index, 0, 15)
        episode = int(clip.arrays["states"][0].item())
        assert numbers(clip.frames) == list(range(15 * episode, 15 * episode + 15)), name
        assert clip.arrays["actions"][2].tolist() == [4 + episode, 5 + episode]
        assert clip.arrays["terminated"].tolist() == [False] * 14 + [True]
        assert clip.meta["task"] == f"task {episode % 2}"
        seen.add((episode, source.cameras[name]))
    assert len(seen) == 8
    stats = json.loads((folder / "meta" / "stats.json").read_text())
    assert stats["action"]["max"] == [31, 32]
    assert np.shape(stats["observation.images.left"]["mean"]) == (3, 1, 1)
    tasks = pq.read_table(folder / "meta" / "tasks.parquet")
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    assert pack(source, tmp_path / "again").lengths == [15] * 8
    with pytest.raises(UserError, match="already holds a LeRobot dataset"):
        write_lerobot(source, folder)


def test_a_folder_of_another_program_is_not_replaced(tmp_path):
    with DatasetWriter(tmp_path / "store", fps=10) as writer:
        writer.add(numbered(15))
    other = tmp_path / "thesis"
    (other / "meta").mkdir(parents=True)
    (other / "chapter.tex").write_text("mine")
    with pytest.raises(UserError, match="holds other files, so it is not replaced"):
        write_lerobot(Store(tmp_path / "store"), other, overwrite=True)
    assert (other / "chapter.tex").read_text() == "mine"
    folder = write_lerobot(Store(tmp_path / "store"), tmp_path / "out")
    write_lerobot(Store(tmp_path / "store"), folder, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".out")) == []
    assert open_path(folder).names
