# SPDX-License-Identifier: MIT
"""The files from which fuzzing began: small ones of every kind that the program writes or reads, into corpus/.

    python seeds.py
"""
import io
import json
import pathlib
import struct
import tempfile

import numpy as np
import openmm
from PIL import Image

import openmmspacetime as st

CORPUS = pathlib.Path(__file__).resolve().parent/"corpus"


def put(target, name, data):
    (CORPUS/target).mkdir(parents=True, exist_ok=True)
    (CORPUS/target/name).write_bytes(data if isinstance(data, bytes) else data.encode())


def written(ending, write):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder)/f"x{ending}"
        write(str(file))
        return file.read_bytes()


def safetensors(header, data=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text))+text+data


def curves():
    torsions = st.Variables([st.Variable.torsion("phi", [4, 6, 8, 14]), st.Variable.torsion("psi", [6, 8, 14, 16])])
    mixed = st.Variables([st.Variable.torsion("phi", [[0, 1], 2, 3, 4]), st.Variable.distance("d", [0, 5]), st.Variable.coordinate("x", 3, 0, 2.5)])
    put("curve", "torsions.json", written(".json", st.straightLine(torsions, [-2.6, 2.6], [1.0, -1.0], 4.0, 3).save))
    put("curve", "mixed.json", written(".json", st.straightLine(mixed, [0.1, 0.3, 0.2], [1.0, 0.5, 2.2], 2.0, 3).save))
    model = st.GaussianMixtureModel([[-1.0, 0.0], [1.0, 0.0]], [0.1, 0.1], [0.5, 0.5])
    put("curve", "solved.json", written(".json", st.geodesic(model, [-1, 0], [1, 0], logSnr=2.0, points=9).save))
    put("densitypath", "path.json", written(".json", st.densityGeodesic(st.ModelDensity(model, logSnr=2.0), [-1, 0], [1, 0], points=5).save))


def samples():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(6, 2))
    variables = json.dumps([{"name": "phi", "type": "torsion", "atoms": [4, 6, 8, 14]}, {"name": "d", "type": "distance", "atoms": [0, [1, 2]], "weights": [None, [1.0, 2.0]]}])
    arrays = {"x": x, "log_weights": np.zeros(6), "variables": np.array(variables), "grid": np.array(False)}
    for name, save in ("stored", np.savez), ("compressed", np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, **arrays)
        put("npz", f"{name}.npz", buffer.getvalue())
    for name, a in {"f8": x, "f4": x.astype(np.float32), "fortran": np.asfortranarray(x), "i4": np.ones((2, 3), dtype=np.int32), "b1": np.ones((2, 2), dtype=bool),
                    "text": np.array("[]"), "u1": np.ones((1, 2, 2, 3), dtype=np.uint8)}.items():
        buffer = io.BytesIO()
        np.save(buffer, a)
        put("npy", f"{name}.npy", buffer.getvalue())
    put("csv", "plain.csv", "x,y\n1,2\n3.5,-4e-1\n")
    put("csv", "weights.csv", '"phi", "log_weights"\r\n0.1,-1\r\n0.2, 0\r\n')
    put("mixture", "two.json", '{"means":[[-1,0],[1,0.5]],"variances":[0.1,0.2],"weights":[0.5,0.5]}')


def models():
    data = np.random.default_rng(1).normal(size=(200, 1))
    variables = st.Variables([st.Variable.distance("d", [0, 1])])
    put("safetensors", "network.safetensors", written(".safetensors", lambda file: st.train(data, variables, out=file, steps=2, components=2)))
    put("safetensors", "tensors.safetensors", safetensors({"__metadata__": {"format": "other"}, "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
                                                           "b": {"dtype": "F64", "shape": [], "data_offsets": [8, 16]}}, b"\0"*16))
    unet = {"format": "spacetime-model", "version": 1, "schedule": "edm", "prediction": "edm", "sigma_data": 0.5, "log_snr_range": [-6, 8], "temperature_K": None,
            "image": {"height": 4, "width": 4, "channels": 1}, "training": {},
            "network": {"type": "unet", "patch": 1, "channels": 4, "multipliers": [1], "blocks": 1, "embedding": 4}}
    put("safetensors", "unet.safetensors", safetensors({"__metadata__": {"format": "spacetime-model", "version": "1", "model": json.dumps(unet)},
                                                        "data_mean": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}, b"\0"*64))


def pictures():
    pixels = np.random.default_rng(1).integers(0, 256, size=(5, 6, 4)).astype(np.uint8)
    for name, mode, options in [("png", "RGBA", {}), ("png", "P", {}), ("png", "L", {}), ("png", "1", {}), ("png", "I;16", {}), ("jpeg", "RGB", {}),
                                ("jpeg", "L", {"progressive": True}), ("jpeg", "CMYK", {}), ("bmp", "RGB", {}), ("gif", "P", {}), ("tga", "RGBA", {"rle": True}), ("ppm", "RGB", {}), ("ppm", "L", {})]:
        buffer = io.BytesIO()
        image = Image.fromarray(pixels).convert("RGB" if mode == "CMYK" else "RGBA").convert(mode) if mode != "I;16" else Image.fromarray(pixels[..., 0].astype(np.uint16)*257)
        image.save(buffer, format=name, **options)
        put("picture", f"{mode.replace(';', '')}.{name}", buffer.getvalue())


def forces():
    plain = st.SpacetimeForce(s=[0, 0.5, 1], eta=np.ones((3, 2)), temperature=300)
    plain.addTorsion(4, 6, 8, 14, name="phi")
    put("forcexml", "torsion.xml", openmm.XmlSerializer.serialize(plain))
    rich = st.SpacetimeForce(s=[0, 1], eta=-np.ones((2, 4)), temperature=300)
    centroid = rich.addCentroid([7, 8], [1.0, 2.0])
    frame = rich.addFrame([0, 1, 2], np.eye(3), [1.0, 1.0, 2.0])
    rich.addDistance(0, centroid, name="d")
    rich.addAngle(0, 1, 2, name="a")
    rich.addPosition(3, 1, frame, name="y")
    put("forcexml", "rich.xml", openmm.XmlSerializer.serialize(rich))


if __name__ == "__main__":
    for make in curves, samples, models, pictures, forces:
        make()
    print(f"{sum(1 for f in CORPUS.rglob('*') if f.is_file())} files in {CORPUS}")
