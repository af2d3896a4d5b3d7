# SPDX-License-Identifier: MIT
"""Pictures that Pillow writes, in every mode, as this package reads them."""
import numpy as np
import pytest

import openmmspacetime as st

Image = pytest.importorskip("PIL.Image")

H, W = 6, 5


def smooth(channels):
    """A picture without edges, which JPEG keeps."""
    h, w = np.mgrid[0:H, 0:W] / 10
    return np.stack([h + 0.03 * c * w for c in range(channels)], axis=-1) if channels > 1 else h


@pytest.mark.parametrize("mode,ending", [(m, e) for m, ends in {"L": ("png", "jpg", "bmp", "tga", "pgm", "gif"), "RGB": ("png", "jpg", "bmp", "tga", "ppm", "gif"),
                                                                 "LA": ("png", "tga"), "RGBA": ("png", "tga"), "P": ("png", "gif", "bmp"), "1": ("png",), "I;16": ("png",)}.items()
                                         for e in ends])
@pytest.mark.parametrize("channels", [1, 3])
def testEveryMode(tmp_path, mode, ending, channels):
    path = tmp_path / f"picture.{ending}"
    rng = np.random.default_rng(1)
    if mode == "I;16":
        raw = rng.integers(0, 65536, (H, W), dtype=np.uint16)
        Image.fromarray(raw).save(path)
        rgb = np.repeat(raw[..., None] / 65535, 3, axis=-1)
    else:
        depth = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "P": 3, "1": 1}[mode]
        raw = np.rint(255 * smooth(depth)).astype(np.uint8) if ending in ("jpg", "gif") else rng.integers(0, 256, (H, W, depth), dtype=np.uint8).squeeze()
        picture = Image.fromarray(raw, {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[depth])
        if mode in ("P", "1"):
            picture = picture.convert(mode)
        picture.save(path, **({"quality": 100, "subsampling": 0} if ending == "jpg" else {}))
        # The expectation takes the pixels back from the file, by Pillow, and blends them on the background here.
        rgba = np.asarray(Image.open(path).convert("RGBA")) / 255
        rgb = rgba[..., :3] * rgba[..., 3:] + 0.25 * (1 - rgba[..., 3:])
    got = st.readImage(path, channels=channels, background=0.25)
    assert got.shape == (H, W, channels)
    expected = rgb if channels == 3 else (rgb @ [0.299, 0.587, 0.114])[..., None]
    assert np.abs(got - expected).max() < (0.02 if ending == "jpg" else 1e-6)
    own = st.readImage(path)
    assert own.shape == (H, W, 1 if (mode in ("L", "LA", "I;16") and ending not in ("gif", "bmp")) or mode == "1" else 3)


def testPaletteWithTransparency(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "p.png", transparency=1)
    assert np.allclose(st.readImage(tmp_path / "p.png", background=0.5), [[[1, 0, 0], [0.5, 0.5, 0.5]]])


def testTruncatedFiles(tmp_path):
    rng = np.random.default_rng(2)
    picture = Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))
    for ending in ("png", "jpg", "bmp", "tga", "ppm", "gif"):
        path = tmp_path / f"whole.{ending}"
        picture.save(path)
        st.readImage(path)
        data = path.read_bytes()
        for share in (0.02, 0.3, 0.6, 0.95):
            cut = tmp_path / f"cut.{ending}"
            cut.write_bytes(data[:int(share * len(data))])
            with pytest.raises(ValueError, match=f"picture '.*cut.{ending}'"):
                st.readImage(cut)


@pytest.mark.parametrize("options", [{"progressive": True}, {"quality": 60, "subsampling": 2}, {"mode": "CMYK"}, {"mode": "L", "progressive": True}])
def testKindsOfJpeg(tmp_path, options):
    """Kinds of JPEG that a camera, a scanner or a printer makes, as Pillow decodes them."""
    options = dict(options)
    h, w = np.mgrid[0:24, 0:17]/24
    picture = Image.fromarray(np.rint(255*np.stack([h, w, 0.5 + 0*h], axis=-1)).astype(np.uint8)).convert(options.pop("mode", "RGB"))
    path = tmp_path/"picture.jpg"
    picture.save(path, **{"quality": 95, **options})
    opened = Image.open(path)
    assert np.abs(st.readImage(path, channels=3) - np.asarray(opened.convert("RGB"))/255).max() < 0.02
    assert st.readImage(path).shape[2] == (1 if opened.mode == "L" else 3)


def testDamagedJpeg(tmp_path):
    """A byte that is changed gives the same picture, another picture of the same size, or one line that says what is wrong."""
    path = tmp_path/"picture.jpg"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(path)
    whole, refused = bytearray(path.read_bytes()), []
    for at in range(0, len(whole), 23):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xff]) + whole[at + 1:])
        try:
            assert np.isfinite(st.readImage(path)).all()
        except ValueError as e:
            assert str(e).startswith(f"picture '{path}': ") and "\n" not in str(e)
            refused.append(str(e))
    assert any("damaged" in m for m in refused)
    # What a decoder makes up in the place of what is missing is no picture.
    scan = whole.index(b"\xff\xda") + 14
    path.write_bytes(whole[:scan + 200] + b"\xff\xd9")
    with pytest.raises(ValueError, match="cut off"):
        st.readImage(path)


def testFilesThatAreNoPictures(tmp_path):
    for name, data in {"empty.png": b"", "text.png": b"hello, I am a text\n" * 20, "webp.png": b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(100)}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=name):
            st.readImage(tmp_path / name)
    with pytest.raises(ValueError, match="no such file"):
        st.readImage(tmp_path / "none.png")
    with pytest.raises(ValueError, match="not a regular file"):
        st.readImage(tmp_path)


def testFolderAndSizes(tmp_path):
    images = np.random.default_rng(3).random((3, 8, 8, 3))
    for name, image in zip("cab", images):
        st.writePng(tmp_path / f"{name}.png", image)
    with pytest.raises(ValueError, match="exists"):
        st.writePng(tmp_path / "a.png", images[0])
    found = st.readImages(tmp_path)
    assert found.names == ["a.png", "b.png", "c.png"] and found.skipped == [] and len(found) == 3
    assert np.abs(found.pixels - images[[1, 2, 0]]).max() <= 0.5 / 255 + 1e-6
    (tmp_path / "bad.png").write_bytes(b"nothing")
    Image.new("L", (9, 4), 128).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match="bad.png"):
        st.readImages(tmp_path)
    found = st.readImages(tmp_path, skipUnreadable=True)
    assert [s.split(":")[0] for s in found.skipped] == ["bad.png", "small.png"]
    with pytest.raises(ValueError, match="small.png.*expected a picture of 8 x 8 pixels, got 4 x 9"):
        st.readImage(tmp_path / "small.png", size=8)
    fitted = st.readImage(tmp_path / "small.png", size=(8, 9), channels=3, resize=True, background=0)
    assert fitted.shape == (8, 9, 3) and np.allclose(fitted[2:6], 128 / 255) and np.all(fitted[:2] == 0) and np.all(fitted[6:] == 0)
    assert st.readImages(tmp_path / "small.png").names == ["small.png"]


def testArraysOfPictures(tmp_path):
    path, images = tmp_path / "a.npy", np.random.default_rng(4).random((5, 8, 8))
    np.save(path, images)
    assert np.allclose(st.readImages(path).pixels[..., 0], images, atol=1e-6)
    np.save(path, np.asfortranarray(np.rint(255 * images).astype(np.uint8)))
    assert np.allclose(st.readImages(path, channels=3).pixels, np.rint(255 * images)[..., None] / 255, atol=1e-6)
    images[1, 2, 3] = np.nan
    np.save(path, images)
    with pytest.raises(ValueError, match=r"a.npy.*picture 1, value 19.*nan"):
        st.readImages(path)
    np.save(path, 16 * np.ones((2, 8, 8)))
    with pytest.raises(ValueError, match="between 0 and 1.*16"):
        st.readImages(path)


def testSmallerIsAverage(tmp_path):
    image = np.random.default_rng(5).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "large.png")
    expected = image.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3)) / 255
    assert np.abs(st.readImage(tmp_path / "large.png", size=8, resize=True) - expected).max() < 1e-5


def testWritingIsReadByOthers(tmp_path):
    image = np.random.default_rng(6).random((4, 7, 3))
    st.writePng(tmp_path / "x.png", image)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), np.rint(255 * image).astype(np.uint8))
    st.writePng(tmp_path / "g.png", image[..., 0])
    assert Image.open(tmp_path / "g.png").mode == "L"
    with pytest.raises(ValueError, match="not a number"):
        st.writePng(tmp_path / "n.png", np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="channels"):
        st.writePng(tmp_path / "n.png", np.zeros((2, 2, 5)))
