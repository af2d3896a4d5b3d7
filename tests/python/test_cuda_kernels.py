# SPDX-License-Identifier: MIT
"""The kernels compile for CUDA: with NVRTC, which needs no GPU, as OpenMM's CUDA platform calls it."""
import ctypes
import importlib.util
import itertools
import pathlib
import re

import pytest

KERNELS = pathlib.Path(__file__).resolve().parents[2] / "platforms" / "common" / "src" / "kernels" / "spacetimeForce.cc"

MATH = {name: name.lower() for name in ("SQRT", "RSQRT", "EXP", "LOG", "POW", "COS", "SIN", "TAN", "ACOS", "ASIN", "ATAN", "ERF", "ERFC", "FMA", "FABS")}

DIALECT = """
typedef unsigned int tileflags;
typedef long long mm_long;
typedef unsigned long long mm_ulong;
#define KERNEL extern "C" __global__
#define DEVICE __device__
#define LOCAL __shared__
#define LOCAL_ARG
#define GLOBAL
#define RESTRICT __restrict__
#define LOCAL_ID threadIdx.x
#define LOCAL_SIZE blockDim.x
#define GLOBAL_ID (LOCAL_ID+GROUP_ID*LOCAL_SIZE)
#define GLOBAL_SIZE (LOCAL_SIZE*NUM_GROUPS)
#define GROUP_ID blockIdx.x
#define NUM_GROUPS gridDim.x
#define SYNC_THREADS __syncthreads();
#define SYNC_WARPS __syncwarp();
#define SHFL(var, srcLane) __shfl_sync(0xffffffff, var, srcLane);
#define BALLOT(var) __ballot_sync(0xffffffff, var);
#define MEM_FENCE __threadfence_block();
#define ATOMIC_ADD(dest, value) atomicAdd(dest, value)
#define FLT_MAX 3.40282347e+38f
#define SUPPORTS_64_BIT_ATOMICS 1
#define SUPPORTS_DOUBLE_PRECISION 1
__device__ inline long long realToFixedPoint(real x) {
    return (long long) (4294967296.0f*x);
}
"""

RECTANGULAR_BOX = """
#define IMAGE_ALONG_(delta, c) delta.c -= periodicBoxSize.c*floor(0.5f+delta.c*invPeriodicBoxSize.c);
#define APPLY_PERIODIC_TO_DELTA(delta) {IMAGE_ALONG_(delta, x) IMAGE_ALONG_(delta, y) IMAGE_ALONG_(delta, z)}
#define WRAP_ALONG_(pos, c) pos.c -= periodicBoxSize.c*floor(pos.c*invPeriodicBoxSize.c);
#define APPLY_PERIODIC_TO_POS(pos) {WRAP_ALONG_(pos, x) WRAP_ALONG_(pos, y) WRAP_ALONG_(pos, z)}
"""

TRICLINIC_BOX = """
#define SHIFT_BY_(r, n, vec) {real n_ = n; r.x -= n_*vec.x; r.y -= n_*vec.y; r.z -= n_*vec.z;}
#define APPLY_PERIODIC_TO_DELTA(delta) {SHIFT_BY_(delta, floor(0.5f+delta.z*invPeriodicBoxSize.z), periodicBoxVecZ) \\
    SHIFT_BY_(delta, floor(0.5f+delta.y*invPeriodicBoxSize.y), periodicBoxVecY) SHIFT_BY_(delta, floor(0.5f+delta.x*invPeriodicBoxSize.x), periodicBoxVecX)}
#define APPLY_PERIODIC_TO_POS(pos) {SHIFT_BY_(pos, floor(pos.z*invPeriodicBoxSize.z), periodicBoxVecZ) \\
    SHIFT_BY_(pos, floor(pos.y*invPeriodicBoxSize.y), periodicBoxVecY) SHIFT_BY_(pos, floor(pos.x*invPeriodicBoxSize.x), periodicBoxVecX)}
"""


def vectorOperations():
    """Functions on vectors, with the very signatures that OpenMM gives them: templates would take what OpenMM does not."""
    lines = []
    for scalar, n in itertools.product(("int", "float", "double"), (2, 3, 4)):
        vector, names = f"{scalar}{n}", "xyzw"[:n]

        def function(result, name, arguments, entry):
            values = ", ".join(entry.replace("#", c) for c in names)
            lines.append(f"inline __device__ {result} {name}({arguments}) {{ return make_{vector}({values}); }}")

        function(vector, f"make_{vector}", f"{scalar} a", "a")
        function(vector, "operator-", f"{vector} a", "-a.#")
        for op in "+-*/":
            function(vector, f"operator{op}", f"{vector} a, {vector} b", f"a.#{op}b.#")
        function(vector, "operator*", f"{vector} a, {scalar} b", "a.#*b")
        function(vector, "operator*", f"{scalar} a, {vector} b", "a*b.#")
        function(vector, "operator/", f"{vector} a, {scalar} b", "a.#/b")
        for op, b in (("+", vector), ("-", vector), ("*", vector), ("/", vector), ("*", scalar)):
            lines.append(f"inline __device__ void operator{op}=({vector}& a, {b} b) {{ a = a{op}b; }}")
        if n == 4:
            lines.append(f"inline __device__ {scalar}3 trimTo3({vector} a) {{ return make_{scalar}3(a.x, a.y, a.z); }}")
        if n == 3 and scalar != "int":
            lines.append(f"inline __device__ {scalar} dot({vector} a, {vector} b) {{ return a.x*b.x+a.y*b.y+a.z*b.z; }}")
        if n > 2 and scalar != "int":
            product = ["a.y*b.z-a.z*b.y", "a.z*b.x-a.x*b.z", "a.x*b.y-a.y*b.x"] + ["0"] * (n - 3)
            lines.append(f"inline __device__ {vector} cross({vector} a, {vector} b) {{ return make_{vector}({', '.join(product)}); }}")
    return "\n".join(lines) + "\n"


def prelude(precision, box):
    """What OpenMM's CUDA platform puts before a kernel, and what our host code defines."""
    real, mixed = {"single": ("float", "float"), "mixed": ("float", "double"), "double": ("double", "double")}[precision]
    suffix, one = ("", "1.0") if real == "double" else ("f", "1.0f")
    defines = {name: function + suffix for name, function in MATH.items()}
    defines["RECIP"] = one + "/"
    defines.update({"single": {}, "mixed": {"USE_MIXED_PRECISION": "1"}, "double": {"USE_DOUBLE_PRECISION": "1"}}[precision])
    for n, (name, scalar) in itertools.product((2, 3, 4), (("real", real), ("mixed", mixed))):
        defines[f"make_{name}{n}"] = f"make_{scalar}{n}"
    defines.update(PADDED_NUM_ATOMS="128", THREAD_BLOCK_SIZE="64")
    if box:
        defines["USE_PERIODIC"] = "1"
    types = [f"typedef {scalar}{n} {name}{n};" for name, scalar in (("real", real), ("mixed", mixed)) for n in ("", 2, 3, 4)]
    return "\n".join([f"#define {name} {value}" for name, value in defines.items()] + types) + DIALECT + vectorOperations() + (
        TRICLINIC_BOX if box == "triclinic" else RECTANGULAR_BOX)


class Nvrtc:
    """NVIDIA's run-time compiler out of the wheels that torch brings."""

    def __init__(self):
        spec = importlib.util.find_spec("nvidia")
        folders = spec.submodule_search_locations if spec else []
        found = sorted(path for folder in folders for path in pathlib.Path(folder).glob("*/lib/libnvrtc.so.*"))
        if not found:
            pytest.fail("NVRTC is needed to compile the kernels, but no nvidia/*/lib/libnvrtc.so.* is installed. Run: pip install -r requirements.txt")
        self.library = ctypes.CDLL(str(found[0]))
        self.library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def call(self, name, *arguments):
        result = getattr(self.library, name)(*arguments)
        if result:
            raise RuntimeError(f"{name}: {self.library.nvrtcGetErrorString(result).decode()}")

    def text(self, what, program):
        size = ctypes.c_size_t()
        self.call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self.call(f"nvrtcGet{what}", program, text)
        return text.value.decode()

    def architectures(self):
        count = ctypes.c_int()
        self.call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        architectures = (ctypes.c_int * count.value)()
        self.call("nvrtcGetSupportedArchs", architectures)
        return list(architectures)

    def compile(self, before, source, architecture):
        """PTX, or None where there are errors, and the log. The log calls `source` spacetimeForce.cc."""
        text = f'{before}\n#line 1 "{KERNELS.name}"\n{source}'
        program, options = ctypes.c_void_p(), [f"-arch=compute_{architecture}".encode(), b"--use_fast_math"]
        self.call("nvrtcCreateProgram", ctypes.byref(program), text.encode(), None, 0, None, None)
        try:
            result = self.library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
            log = self.text("ProgramLog", program)
            return (self.text("PTX", program) if result == 0 else None), log
        finally:
            self.library.nvrtcDestroyProgram(ctypes.byref(program))


@pytest.fixture(scope="module")
def nvrtc():
    return Nvrtc()


def complaints(log):
    """Lines of the log on our own kernels."""
    return re.findall(rf"^{re.escape(KERNELS.name)}\(\d+\): .*", log, re.M)


@pytest.mark.parametrize("box", ["", "rectangular", "triclinic"])
@pytest.mark.parametrize("precision", ["single", "mixed", "double"])
@pytest.mark.parametrize("newest", [False, True], ids=["oldest", "newest"])
def testCompiles(nvrtc, precision, box, newest):
    source = KERNELS.read_text()
    names = re.findall(r"^KERNEL\s+void\s+(\w+)", source, re.M)
    assert names
    ptx, log = nvrtc.compile(prelude(precision, box), source, nvrtc.architectures()[-1 if newest else 0])
    print(log)
    assert ptx is not None, log
    assert not complaints(log), log
    assert sorted(re.findall(r"^\.visible \.entry (\w+)\(", ptx, re.M)) == sorted(names)
    # Doubles are slow on most GPUs: only the wider precisions may use them.
    assert precision != "single" or not re.search(r"\.f64\b", ptx)


def testMistakesAreSeen(nvrtc):
    before, architecture = prelude("mixed", ""), nvrtc.architectures()[-1]
    start = "KERNEL void k(GLOBAL real3* RESTRICT x) {\n    "
    ptx, log = nvrtc.compile(before, start + "x[0] = cross(x[1], x[2]);\n}\n", architecture)
    assert ptx is not None and not complaints(log), log
    for mistake in ("x[0] = cros(x[1], x[2]);", "x[0] = x[1]+1;", "mixed3 m = x[0]; x[1] = trimTo3(m);"):
        ptx, log = nvrtc.compile(before, start + mistake + "\n}\n", architecture)
        assert ptx is None and any("(2): error" in line for line in complaints(log)), log
    ptx, log = nvrtc.compile(before, start + "int unused = 0;\n}\n", architecture)
    assert ptx is not None and any("(2): warning" in line for line in complaints(log)), log
