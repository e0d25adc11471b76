"""Messages about a GPU that is not there, and launches on one that is, through a fake CuPy."""

import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from gzkern.errors import GzkernError, InputError, OutOfMemory
from gzkern.runtime import cuda_backend, nvrtc
from gzkern.runtime import gpu as device


class CUDARuntimeError(RuntimeError):
    def __init__(self, message, status):
        super().__init__(message)
        self.status = status


class CUDADriverError(RuntimeError):
    def __init__(self, message, status=1):
        super().__init__(message)
        self.status = status


class Runtime(ModuleType):
    CUDARuntimeError = CUDARuntimeError
    cudaDevAttrMultiProcessorCount, cudaDevAttrClockRate, cudaDevAttrMemoryClockRate = range(3)
    cudaDevAttrL2CacheSize, cudaDevAttrGlobalMemoryBusWidth = range(3, 5)
    attributes = (132, 1_980_000, 2_619_000, 50 * 2**20, 5120)
    version, count = 13020, 1

    def runtimeGetVersion(self):
        return self.version

    def getDeviceCount(self):
        if isinstance(self.count, Exception):
            raise self.count
        return self.count

    def getDeviceProperties(self, number):
        return {"name": b"NVIDIA H100 80GB HBM3", "totalGlobalMem": 80 * 2**30}

    def memGetInfo(self):
        return 2 * 2**30, 80 * 2**30

    def deviceGetAttribute(self, attribute, number):
        return self.attributes[attribute]


class Driver(ModuleType):
    CUDADriverError = CUDADriverError
    CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES = 1
    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8
    CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT = 9

    def __init__(self, name):
        super().__init__(name)
        self.calls = []

    def funcGetAttribute(self, attribute, function):
        return {self.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: 80}[attribute]

    def funcSetAttribute(self, function, attribute, value):
        self.calls.append(("set", function, attribute, value))


class Nvrtc(ModuleType):
    version = (13, 5)

    def getVersion(self):
        if isinstance(self.version, Exception):
            raise self.version
        return self.version

    def getSupportedArchs(self):
        return (75, 80, 86, 90, 100)


class Device:
    capability = "90"
    current = 0

    def __init__(self, number):
        self.number = number

    @property
    def compute_capability(self):
        return self.capability

    def __enter__(self):
        self.before, Device.current = Device.current, self.number

    def __exit__(self, *error):
        Device.current = self.before


class Module:
    def load(self, image):
        self.image = image

    def get_function(self, name):
        def launch(grid, block, args, shared_mem):
            sys.modules["cupy.cuda"].driver.calls.append((name, Device.current, grid, block, args, shared_mem))

        def function(*arguments):
            launch(*arguments)

        function.ptr = 7
        return function


@pytest.fixture
def cupy(monkeypatch):
    """A machine with one H100, its driver, CuPy and NVRTC; attributes of what this returns can be changed."""
    cupy, cuda, function = ModuleType("cupy"), ModuleType("cupy.cuda"), ModuleType("cupy.cuda.function")
    cuda.runtime, cuda.driver, cuda.nvrtc = Runtime("runtime"), Driver("driver"), Nvrtc("nvrtc")
    cuda.Device, cuda.function, function.Module = type("Device", (Device,), {}), function, Module
    cuda.memory = SimpleNamespace(OutOfMemoryError=type("OutOfMemoryError", (MemoryError,), {}))
    cupy.cuda, cupy.__version__ = cuda, "14.2.0"
    cupy.empty = lambda shape, dtype: np.full(shape, Device.current, dtype)
    cupy.asarray = cupy.asnumpy = np.array
    for module in (cupy, cuda, function):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    set_driver(monkeypatch, (13, 0))
    return cuda


def set_driver(monkeypatch, version):
    monkeypatch.setattr(device, "driver_version", lambda: version)


def test_nothing_is_missing(cupy):
    assert device.missing() is None
    device.require()


def test_no_driver(cupy, monkeypatch):
    set_driver(monkeypatch, None)
    assert device.missing().startswith("no NVIDIA driver is loaded; with an NVIDIA GPU, install its driver and pip")
    with pytest.raises(InputError, match=r"device 'cuda': no NVIDIA driver .*, or use --device cpu"):
        device.require()


def test_a_driver_older_than_any_cupy(cupy, monkeypatch):
    set_driver(monkeypatch, (11, 8))
    expected = 'the NVIDIA driver is for CUDA 11.8; install one for CUDA 12 or newer, and pip install "gzkern[cuda12]"'
    assert device.missing() == expected


@pytest.mark.parametrize(("driver", "extra"), [((12, 4), "cuda12"), ((13, 0), "cuda13"), ((14, 1), "cuda13")])
def test_no_cupy(cupy, monkeypatch, driver, extra):
    set_driver(monkeypatch, driver)
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setattr(sys, "meta_path", [])
    assert device.missing() == f'CuPy is not installed; pip install "gzkern[{extra}]"'


INSTALL = 'pip install "gzkern[cuda13]"'
BROKEN = {
    "ImportError('libgomp is missing\\nmore lines')": f"libgomp is missing); {INSTALL}",
    "ValueError('numpy.dtype size changed')": f"numpy.dtype size changed); {INSTALL}",
    "AttributeError('_ARRAY_API not found')": f"_ARRAY_API not found); {INSTALL}",
    "OSError(30, 'Read-only file system', '/home/me/.cupy')": (
        "[Errno 30] Read-only file system: '/home/me/.cupy'); set CUPY_CACHE_DIR to a folder that can be written to"
    ),
}


@pytest.mark.parametrize("error", BROKEN)
def test_a_cupy_that_does_not_import(cupy, monkeypatch, tmp_path, capsys, error):
    from gzkern import device as choice

    (tmp_path / "cupy.py").write_text(f"raise {error}\n")
    for module in ("cupy", "cupy.cuda"):
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(tmp_path)
    assert device.missing() == f"CuPy cannot be imported ({BROKEN[error]}"
    for cached in ("_auto", "_device"):
        monkeypatch.setattr(choice, cached, getattr(choice, cached).__wrapped__)
    assert choice.select("auto").name == "cpu"
    assert capsys.readouterr().err == f"gzkern: device cpu (CuPy cannot be imported ({BROKEN[error]})\n"
    assert nvrtc.missing() is not None


@pytest.mark.parametrize("error", BROKEN)
def test_info_lives_beside_a_broken_cupy(monkeypatch, tmp_path, error):
    (tmp_path / "cupy.py").write_text(f"raise {error}\n")
    command = [sys.executable, "-m", "gzkern", "info"]
    run = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "\ncuda      not here: " in run.stdout


def test_cupy_for_another_cuda(cupy, monkeypatch):
    set_driver(monkeypatch, (12, 4))
    assert device.missing() == (
        "CuPy is made for CUDA 13, the NVIDIA driver for CUDA 12.4; pip uninstall cupy-cuda13x nvidia-cuda-nvrtc, "
        'then pip install "gzkern[cuda12]"'
    )
    cupy.runtime.version = 12090
    assert device.missing() == (
        "NVRTC is that of CUDA 13.5, the NVIDIA driver for CUDA 12.4; pip uninstall nvidia-cuda-nvrtc, "
        'then pip install "gzkern[cuda12]"'
    )
    cupy.nvrtc.version = (12, 9)
    assert device.missing() is None


def test_no_nvrtc(cupy):
    cupy.nvrtc.version = RuntimeError('Failure finding "libnvrtc.so.13"\nmore lines')
    assert device.missing() == (
        'NVRTC cannot be loaded (Failure finding "libnvrtc.so.13"); pip install "gzkern[cuda13]"'
    )


@pytest.mark.parametrize("count", [0, CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected", 100)])
def test_no_gpu(cupy, count, monkeypatch):
    cupy.runtime.count = count
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device.missing() == "the NVIDIA driver finds no GPU; see what nvidia-smi lists"
    for value in ("", "7"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert device.missing() == (
            f"CUDA_VISIBLE_DEVICES={value!r} hides every GPU; unset it, or name one that nvidia-smi lists"
        )


def test_a_gpu_that_does_not_answer(cupy):
    cupy.runtime.count = CUDARuntimeError("cudaErrorSystemNotReady: system not yet initialized", 802)
    assert device.missing().startswith("the GPU does not answer (cudaErrorSystemNotReady: ")


def test_a_gpu_too_old(cupy):
    cupy.Device.capability = "75"
    assert device.missing() == "the GPU has compute capability 7.5; the kernels need 8.0 or newer"


def set_capabilities(cupy, *capabilities):
    cupy.runtime.count = len(capabilities)
    cupy.Device.compute_capability = property(lambda self: capabilities[self.number])


def test_an_old_gpu_beside_one_that_would_do(cupy):
    set_capabilities(cupy, "61", "75", "89")
    assert device.missing() == (
        "GPU 0 of 3 has compute capability 6.1; the kernels need 8.0 or newer; "
        "set CUDA_VISIBLE_DEVICES so that GPU 2 is the first"
    )
    set_capabilities(cupy, "61", "75")
    assert device.missing() == "the GPU has compute capability 6.1; the kernels need 8.0 or newer"


def test_one_of_several_gpus_is_named(cupy):
    assert device.notes() == []
    set_capabilities(cupy, "90", "61")
    assert device.missing() is None
    assert device.notes() == ["GPU 0 of 2 is used, NVIDIA H100 80GB HBM3; CUDA_VISIBLE_DEVICES=N chooses GPU N"]


@pytest.mark.parametrize(
    ("driver", "compiler", "package"),
    [((13, 0), (13, 0), "nvidia-cuda-nvrtc"), ((12, 8), (12, 4), "nvidia-cuda-nvrtc-cu12")],
)
def test_a_gpu_newer_than_nvrtc_is_translated_by_the_driver(cupy, monkeypatch, driver, compiler, package):
    set_driver(monkeypatch, driver)
    cupy.runtime.version, cupy.nvrtc.version, cupy.Device.capability = 1000 * driver[0], compiler, "130"
    assert device.missing() is None
    assert device.notes() == [
        f"NVRTC {compiler[0]}.{compiler[1]} does not know the GPU's compute capability 13.0: kernels are compiled for "
        f"compute_100, and translated by the driver; pip install --upgrade {package}"
    ]


def test_a_gpu_newer_than_nvrtc_under_a_driver_older_than_it(cupy):
    cupy.Device.capability = "130"  # NVRTC 13.5, a driver for 13.0
    assert device.missing() == (
        "NVRTC 13.5 does not know the GPU's compute capability 13.0, and the driver for CUDA 13.0 cannot translate "
        "what a newer NVRTC compiles; update the driver"
    )


def test_notes_are_said_when_the_device_is_chosen(cupy, monkeypatch, capsys):
    from gzkern import device as choice

    set_capabilities(cupy, "90", "90")
    monkeypatch.setattr(choice, "_device", choice._device.__wrapped__)
    assert choice.select("cuda").name == "cuda"
    assert capsys.readouterr().err.startswith("gzkern: device cuda: GPU 0 of 2 is used, ")


def test_auto_says_why_it_is_the_cpu(cupy, monkeypatch, capsys):
    from gzkern import device as choice

    cupy.Device.capability = "75"
    for cached in ("_auto", "_device"):
        monkeypatch.setattr(choice, cached, getattr(choice, cached).__wrapped__)
    assert choice.select("auto").name == "cpu"
    assert capsys.readouterr().err == (
        "gzkern: device cpu (the GPU has compute capability 7.5; the kernels need 8.0 or newer)\n"
    )
    cupy.Device.capability = "100"
    assert choice.select("auto").name == "cuda"


def test_no_driver_with_the_real_cupy(monkeypatch):
    """CuPy imports, and NVRTC compiles, where there is no driver."""
    cupy = pytest.importorskip("cupy")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        set_driver(monkeypatch, (13, 0))  # and yet none answers
        assert device.missing().startswith("the GPU does not answer (cudaErrorInsufficientDriver")
    else:
        pytest.skip("there is a GPU")


def test_driver_version_of_this_machine():
    version = device.driver_version()
    assert version is None or version > (9, 0)


@pytest.mark.gxx
@pytest.mark.parametrize(
    ("version", "extra"), [(0, "(None, None)"), (12040, "((12, 4), 'cuda12')"), (13010, "((13, 1), 'cuda13')")]
)
def test_version_that_a_driver_tells(tmp_path, version, extra):
    text = f'extern "C" int cuDriverGetVersion(int* version) {{ return *version = {version}, 0; }}'
    build = ["g++", "-shared", "-fPIC", "-xc++", "-", "-o", str(tmp_path / "libcuda.so.1")]
    subprocess.run(build, input=text, text=True, check=True)
    code = "from gzkern.runtime.gpu import driver_version, extra; print((driver_version(), extra()))"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == extra


def test_description(cupy):
    (gpu,) = device.describe_all()
    assert gpu["gpu"] == "NVIDIA H100 80GB HBM3"
    assert gpu["compute_capability"] == 9.0
    assert gpu["architecture"] == "sm_90a"
    assert gpu["driver"] == "13.0"
    assert gpu["peak_fp32_tflops"] == pytest.approx(66.9, abs=0.1)
    assert gpu["peak_memory_gb_s"] == pytest.approx(3352, abs=1)
    cupy.Device.capability = "80"
    assert device.describe(0)["peak_fp32_tflops"] == pytest.approx(33.5, abs=0.1)
    cupy.runtime.attributes = (132, 0, 0, 0, 0)
    assert device.describe(0)["peak_fp32_tflops"] is None


@pytest.fixture
def gpu(cupy, monkeypatch):
    """Its second GPU, with what was loaded and launched."""
    monkeypatch.setattr(nvrtc, "image", lambda code, architecture: (code.name, architecture))
    return cuda_backend.CudaBackend(1)


def test_a_launch(cupy, gpu):
    function = gpu.get_function("relu", "relu_forward")
    assert gpu.get_function("relu", "relu_forward") is function
    function((2,), (256,), ("x", "y", np.uint32(300)), 0)
    assert cupy.driver.calls == [("relu_forward", 1, (2,), (256,), ("x", "y", np.uint32(300)), 0)]
    assert Device.current == 0


def test_shared_memory_is_prepared_before_a_launch_that_needs_more(cupy, gpu):
    """80 bytes are static: 49,152 of dynamic memory are too many without opting in, as on an RTX 4090's conv3 tile."""
    function = gpu.get_function("relu", "relu_forward")
    for shared in (0, 1024, 48 * 1024 - 80, 48 * 1024, 96 * 1024, 64 * 1024):
        function((1,), (32,), (), shared)
    most, carveout = ("set", 7, 8), ("set", 7, 9, 100)
    assert [call for call in cupy.driver.calls if call[0] == "set"] == [
        carveout,
        carveout,
        *(carveout, (*most, 48 * 1024)),
        *(carveout, (*most, 96 * 1024)),
    ]
    launches = [position for position, call in enumerate(cupy.driver.calls) if call[0] == "relu_forward"]
    assert cupy.driver.calls[launches[3] - 1] == (*most, 48 * 1024)


def test_arrays_live_on_their_gpu(gpu):
    assert gpu.empty((2, 3)).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert gpu.empty((2,), np.uint8).dtype == np.uint8
    assert gpu.asnumpy(gpu.asarray(np.arange(3))).tolist() == [0, 1, 2]


def test_no_such_kernel(gpu):
    expected = "kernels/relu.cu: no kernel 'relu_sideways'; it has relu_forward, relu_backward"
    with pytest.raises(GzkernError, match=expected):
        gpu.get_function("relu", "relu_sideways")


def test_failures_name_the_gpu_and_what_it_did(cupy, gpu, monkeypatch):
    def fail(*arguments):
        raise CUDADriverError("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: too many resources requested for launch")

    monkeypatch.setattr(Module, "get_function", lambda self, name: SimpleNamespace(ptr=7))
    monkeypatch.setattr(cupy.driver, "funcSetAttribute", fail)
    function = gpu.get_function("relu", "relu_forward")
    with pytest.raises(GzkernError, match="GPU 1: relu_forward: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"):
        function((1,), (32,), (), 300 * 1024)

    def illegal(*arguments):
        raise CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered", 700)

    monkeypatch.setattr(sys.modules["cupy"], "asnumpy", illegal)
    with pytest.raises(GzkernError, match="GPU 1: copying from the GPU, or what was launched before: cudaErrorIllegal"):
        gpu.asnumpy(None)


@pytest.mark.parametrize("status", [None, 2])
def test_what_does_not_fit_names_its_size_and_the_memory(cupy, gpu, monkeypatch, status):
    def fail(*arguments):
        raise CUDARuntimeError("out", status) if status else cupy.memory.OutOfMemoryError("Out of memory allocating 4")

    monkeypatch.setattr(sys.modules["cupy"], "empty", fail, raising=False)
    with pytest.raises(OutOfMemory, match=r"GPU 1: an array of 6\.0 GiB does not fit: 2\.0 of its 80\.0 GiB are free"):
        gpu.empty((3, 2**29))


@pytest.mark.nvrtc
def test_compile_all_says_the_seconds_of_each_file(tmp_path, monkeypatch):
    monkeypatch.setenv("GZKERN_CACHE", str(tmp_path))
    monkeypatch.setattr(device, "capability", lambda number: 80)
    units = [("relu", ()), ("maxout", ())]
    assert list(cuda_backend.CudaBackend(0).compile_all(units)) == units
    assert len(list((tmp_path / "cuda").glob("*-sm_80-*"))) == 2


@pytest.mark.gpu
def test_a_real_gpu():
    gpu = cuda_backend.backend()
    x = gpu.asarray(np.array([-1, 2, np.nan], np.float32))
    y = gpu.empty((3,))
    gpu.get_function("relu", "relu_forward")((1,), (32,), (x, y, np.uint32(3)))
    np.testing.assert_array_equal(gpu.asnumpy(y), np.array([0, 2, np.nan], np.float32))
    units = [("relu", ()), ("conv2d/forward_wgmma", (3, 3, 1, 32, 2, 2, 1, 2))]
    assert list(gpu.compile_all(units)) == units
    assert {"gpu", "driver", "cuda", "cupy", "nvrtc"} == gpu.describe().keys()
    facts = device.describe(0)
    assert facts["memory_bytes"] > 2**30
    assert facts["peak_fp32_tflops"] > 1


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(7, 13, 11), (1, 5000), (3,), (), (40, 30), (0, 9)])
def test_large_arrays_are_copied_by_pieces(shape, monkeypatch):
    from gzkern.runtime import cuda_backend

    monkeypatch.setattr(cuda_backend, "_PIECE", 1000)
    array = np.asarray(np.random.default_rng(0).random(shape, np.float32))
    np.testing.assert_array_equal(cuda_backend.backend().asnumpy(cuda_backend.backend().asarray(array)), array)
