"""HDF5 and Minari episodes: frames, rows, cameras and splits of every layout match."""

import io
import json
import pickle

import numpy as np
import pytest
from films import numbered, numbers
from PIL import Image

from framecast.core.errors import UserError
from framecast.data.open import open_path
from framecast.data.options import ReadOptions
from framecast.data.store import pack

h5py = pytest.importorskip("h5py")
FRAMES = numbered(60).transpose(0, 2, 3, 1)


def robomimic(path):
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 20}})
        for i in range(12):
            demo = data.create_group(f"demo_{i}")
            for camera in ("front_image", "wrist_image"):
                part = FRAMES[5 * i : 5 * i + 5]
                demo.create_dataset(f"obs/{camera}", data=part, chunks=(3, *part.shape[1:]), compression="gzip")
                demo.create_dataset(f"next_obs/{camera}", data=part)
            demo["obs/eef"] = np.full((5, 3), i, np.float64)
            demo["actions"] = np.arange(10).reshape(5, 2) + 10.0 * i
            demo["rewards"], demo["dones"] = np.zeros(5), np.arange(5) == 4
        file["mask/train"] = np.array([f"demo_{i}".encode() for i in range(10)])
        file["mask/valid"] = np.array([b"demo_10", b"demo_11"])
    return path


def test_robomimic(tmp_path):
    source = open_path(robomimic(tmp_path / "a.hdf5"))
    assert source.names[:3] == ["demo_0/front_image", "demo_0/wrist_image", "demo_1/front_image"]
    assert source.names[-1] == "demo_11/wrist_image"
    assert (source.spec.fps, source.spec.actions.size) == (20, 2)
    assert source.fixed["demo_11/front_image"] == "val"
    for index in (0, 3, 23):
        clip = source.clip(index, 1, 2, stride=2)
        first = 5 * (index // 2)
        assert numbers(clip.frames) == [first + 1, first + 3]
        assert clip.arrays["actions"][:, 0].tolist() == [10 * (index // 2) + 2, 10 * (index // 2) + 6]
        assert clip.arrays["eef"].tolist() == [[index // 2] * 3] * 2
    assert source.groups["demo_3/front_image"] == source.groups["demo_3/wrist_image"]
    copy = pickle.loads(pickle.dumps(source))
    assert numbers(copy.clip(1, 0, 5).frames) == list(range(5))
    assert pack(source, tmp_path / "store").fixed == source.fixed
    assert open_path(tmp_path / "a.hdf5", ReadOptions(size=(16, 16))).clip(0, 0, 2).frames.shape == (2, 3, 16, 16)


def test_minari_holds_one_frame_more_than_actions(tmp_path):
    with h5py.File(tmp_path / "main_data.hdf5", "w") as file:
        for i in range(3):
            group = file.create_group(f"episode_{i}")
            group["observations"] = FRAMES[10 * i : 10 * i + 9]
            group["actions"] = np.arange(8) % 3
            group["rewards"], group["terminations"] = np.ones(8), np.zeros(8, bool)
            group["infos"] = np.array([b"{}"] * 9)
    source = open_path(tmp_path)
    assert (source.names, source.lengths) == (["episode_0", "episode_1", "episode_2"], [9, 9, 9])
    assert (source.spec.actions.kind, source.spec.actions.size) == ("discrete", 3)
    clip = source.clip(1, 0, 9)
    assert numbers(clip.frames) == list(range(10, 19))
    assert clip.arrays["actions"].tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 0]
    assert clip.arrays["rewards"].tolist() == [1] * 8 + [0]


def test_minari_in_arrow_layout(tmp_path):
    pa = pytest.importorskip("pyarrow")
    box = {"type": "Box", "dtype": "uint8", "shape": list(FRAMES.shape[1:])}
    joints = {"type": "Box", "dtype": "float64", "shape": [2]}
    space = {"type": "Dict", "subspaces": {"camera": box, "joints": joints}}
    (tmp_path / "data").mkdir()
    meta = {"data_format": "arrow", "observation_space": json.dumps(space)}
    (tmp_path / "data" / "metadata.json").write_text(json.dumps(meta))
    for i in range(3):
        part = FRAMES[10 * i : 10 * i + 9].reshape(9, -1)
        camera = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), part.shape[1])
        state = pa.FixedSizeListArray.from_arrays(pa.array(np.full(18, float(i))), 2)
        batch = {
            "observations": pa.StructArray.from_arrays([camera, state], names=["camera", "joints"]),
            "actions": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(18.0)), 2),
            "rewards": pa.array(np.arange(9.0)),
        }
        file = tmp_path / "data" / str(i) / "part-0.arrow"
        file.parent.mkdir()
        batch = pa.RecordBatch.from_pydict(batch)
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
    damaged = tmp_path / "data" / "3" / "part-0.arrow"
    damaged.parent.mkdir()
    damaged.write_bytes(b"nothing")
    with pytest.raises(UserError, match="is damaged"):
        open_path(tmp_path)
    assert open_path(tmp_path, ReadOptions(skip_bad=True)).meta()["skipped"] == ["3"]
    damaged.unlink()
    damaged.parent.rmdir()
    source = open_path(tmp_path)
    assert source.names == ["episode_0", "episode_1", "episode_2"]
    clip = source.clip(2, 0, 9)
    assert numbers(clip.frames) == list(range(20, 29))
    assert clip.arrays["actions"][:8, 0].tolist() == list(range(0, 16, 2))
    assert clip.arrays["joints"][0].tolist() == [2, 2]


def test_mapping_and_one_episode_in_a_file(tmp_path):
    for i in range(2):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["observations/images/top"] = FRAMES[20 * i : 20 * i + 20]
            file["observations/qpos"], file["action"] = np.zeros((20, 7)), np.zeros((20, 7))
    source = open_path(tmp_path)
    assert source.names == ["0", "1"]
    assert numbers(source.clip(1, 0, 3).frames) == [20, 21, 22]
    assert source.spec.actions.size == 7
    other = tmp_path / "other"
    other.mkdir()
    with h5py.File(other / "run.h5", "w") as file:
        file["runs/a/cam0/rgb"] = FRAMES[:10].transpose(0, 3, 1, 2)
        file["runs/a/cmd"], file["runs/a/ft"] = np.zeros((10, 2)), np.ones((10, 6))
    text = "episodes: runs/*\nframes: cam0/rgb\nactions: cmd\narrays: {force: ft}\nfps: 15\naxes: tchw\n"
    (other / "run.yaml").write_text(text)
    source = open_path(other / "run.h5")
    assert (source.names, source.spec.fps, source.spec.extras) == (["runs/a"], 15, {"force": (6,)})
    assert numbers(source.clip(0, 0, 10).frames) == list(range(10))
    (other / "run.yaml").write_text(text.replace("cam0/rgb", "cam1/rgb"))
    with pytest.raises(UserError, match="holds no data set 'cam1/rgb'; fix the mapping"):
        open_path(other / "run.h5")
    (other / "run.yaml").write_text(text + "colour: red\n")
    with pytest.raises(UserError, match="colour"):
        open_path(other / "run.h5")


@pytest.mark.parametrize("axes", ["htwc", "cthw", "tchw", "hwct"])
def test_axes_in_any_order(tmp_path, axes):
    frames = FRAMES[:12].transpose(["thwc".index(letter) for letter in axes])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["obs/image"], file["actions"] = frames / 255, np.arange(24.0).reshape(12, 2)
    source = open_path(tmp_path / "a.h5", ReadOptions(axes=axes))
    clip = source.clip(0, 1, 4, stride=3)
    assert numbers(clip.frames) == [1, 4, 7, 10]
    assert clip.arrays["actions"][:, 0].tolist() == [2, 8, 14, 20]
    for wrong in ("thw", "nthwc", "tthw"):
        with pytest.raises(UserError, match=f"axes '{wrong}' do not fit the shape"):
            open_path(tmp_path / "a.h5", ReadOptions(axes=wrong))


def test_groups_linked_twice_are_read_once_and_loops_end(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/obs/image"] = FRAMES[:6]
        file["a/again"] = file["a"]
        file["b"] = file["a"]
    source = open_path(tmp_path / "a.h5")
    assert (source.names, numbers(source.clip(0, 0, 6).frames)) == (["a"], list(range(6)))


def test_only_files_that_cannot_be_read_are_left_out(tmp_path):
    for i in range(3):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["obs/image"] = FRAMES[10 * i : 10 * i + 10]
    (tmp_path / "3.h5").write_bytes(b"nothing")
    with h5py.File(tmp_path / "4.h5", "w") as file:
        file["obs/image"] = np.full((6, 16, 16, 3), np.nan, np.float32)
    source = open_path(tmp_path, ReadOptions(skip_bad=True))
    assert (source.names, source.meta()["skipped"]) == (["0", "1", "2"], ["3.h5", "4/image"])
    assert numbers(source.clip(1, 0, 10).frames) == list(range(10, 20))
    for i in range(3):
        (tmp_path / f"{i}.h5").unlink()
    with pytest.raises(UserError, match=r"none of its episodes can be read, first 3\.h5"):
        open_path(tmp_path, ReadOptions(skip_bad=True))


def test_damaged_files_and_values_are_refused(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"nothing")
    with pytest.raises(UserError, match="is no HDF5 file, or damaged"):
        open_path(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["numbers"] = np.zeros(5)
    with pytest.raises(UserError, match=r"holds no images that are recognised .*; describe its layout in b\.yaml"):
        open_path(tmp_path / "b.h5")
    frames = np.zeros((6, 16, 16, 3), np.float32)
    frames[4, 0, 0, 0] = np.nan
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["obs/image"] = frames
    with pytest.raises(UserError, match="holds NaN in frame 4"):
        open_path(tmp_path / "c.h5")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["obs/image"] = np.zeros((6, 4, 84, 84), np.uint8)
    with pytest.raises(UserError, match="stacks of 4 grey frames"):
        open_path(tmp_path / "d.h5")


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_encoded_images(tmp_path, form):
    streams = []
    for frame in FRAMES[:6]:
        stream = io.BytesIO()
        Image.fromarray(frame).save(stream, form)
        streams.append(np.frombuffer(stream.getvalue(), np.uint8))
    longest = max(map(len, streams))
    with h5py.File(tmp_path / "padded.h5", "w") as file:
        file["observations/images/top"] = np.stack([np.pad(row, (0, longest - len(row))) for row in streams])
        file["action"] = np.arange(12.0).reshape(6, 2)
    with h5py.File(tmp_path / "variable.h5", "w") as file:
        rows = file.create_dataset("observations/images/top", (6,), h5py.vlen_dtype(np.uint8))
        for number, row in enumerate(streams):
            rows[number] = row
    for name in ("padded.h5", "variable.h5"):
        source = pickle.loads(pickle.dumps(open_path(tmp_path / name)))
        assert numbers(source.clip(0, 0, 6).frames) == list(range(6))
        assert numbers(source.clip(0, 1, 2, stride=3).frames) == [1, 4]
    assert open_path(tmp_path / "padded.h5").spec.actions.size == 2


def test_depth_maps_are_named_or_left_out(tmp_path):
    path = robomimic(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["data/demo_3/obs/front_depth"] = np.full((5, 32, 64, 1), 2.0, np.float32)
    with pytest.raises(UserError, match="front_depth is a depth map"):
        open_path(path)
    assert len(open_path(path, ReadOptions(skip_bad=True))) == 24


def test_damaged_chunk_is_named(tmp_path):
    path = robomimic(tmp_path / "a.hdf5")
    with h5py.File(path) as file:
        place = file["data/demo_0/obs/front_image"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 4 : place + 40] = b"\xff" * 36
    path.write_bytes(content)
    with pytest.raises(UserError, match="front_image cannot be read"):
        open_path(path).clip(0, 0, 5)
