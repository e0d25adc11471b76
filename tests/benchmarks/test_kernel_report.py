"""The report on kernels: what it reads of machine code, what it predicts, what it refuses; and what it keeps from
coming back unseen, bank conflicts and excess sectors."""

import json
from dataclasses import replace

import pytest

from benchmarks.profile import disassembly, kernel_memory, kernel_report, model, occupancy
from benchmarks.profile.disassembly import Code, Loop
from benchmarks.profile.model import GPUS
from gzkern.errors import InputError
from gzkern.runtime.emulator.trace import Access, LaunchTrace
from gzkern.runtime.kernel import Geometry, Kernel

GPU = GPUS["H100"]

# As nvdisasm prints it. Stall counts, bits 41 to 44 of the second word, are 2; 5 of the LDS, 4 of the branches.
TWO = "0x0000040000000000"
LISTING = """
.text.loops:
        /*0000*/                   LDC R1, c[0x0][0x28] ;                     /* 0x00000a00ff017b82 */
                                                                              /* {two} */
.L_x_1:
        /*0010*/                   LDS.128 R4, [R2] ;                         /* 0x0000000000007984 */
                                                                              /* 0x00000a0000000000 */
.L_x_0:
        /*0020*/                   FFMA R4, R4, R5, R6.reuse ;                /* 0x0000000000007223 */
                                                                              /* {two} */
        /*0030*/              @!P0 FFMA R7, R4, R5, R7 ;                      /* 0x0000000000007223 */
                                                                              /* {two} */
        /*0040*/               @P1 BRA `(.L_x_0) ;                            /* 0x0000000000007947 */
                                                                              /* 0x0000080000000000 */
        /*0050*/                   LDGSTS.E.BYPASS.128 [R9], desc[UR4][R2.64] ; /* 0x0000000000007fae */
                                                                              /* {two} */
        /*0060*/                   BRA.U UP0, `(.L_x_1) ;                     /* 0x0000000000007947 */
                                                                              /* 0x0000080000000000 */
        /*0070*/                   STG.E.U8 desc[UR4][R6.64], R9 ;            /* 0x0000000000007986 */
                                                                              /* {two} */
        /*0080*/                   EXIT ;                                     /* 0x000000000000794d */
                                                                              /* {two} */
.L_x_2:
        /*0090*/                   BRA `(.L_x_2);                             /* 0xfffffffc00fc7947 */
                                                                              /* {two} */
        /*00a0*/                   NOP;                                       /* 0x0000000000007918 */
                                                                              /* {two} */
""".replace("{two}", TWO)


def code(**changes):
    return replace(Code(64, 0, 0, 1000, {}, {"FFMA": 512}, Loop({"FFMA": 512, "LDS": 32, "BRA": 1}, 600)), **changes)


def launch(grid, multiply_adds, accesses=(), block=128, calls=None):
    """A trace of one block."""
    arguments = (((1 << 20,), "float32"), 7)
    sectors = sum(each.cost for each in accesses if each.space == "global")
    geometry, kernel = Geometry((grid,), (block,)), Kernel("relu", "relu_forward")
    return LaunchTrace(kernel, geometry, arguments, 1, 8, multiply_adds, calls or {}, sectors, 0, tuple(accesses))


def test_machine_code_is_read():
    found = disassembly.code_of(LISTING, registers=40, shared=128, spills=0)
    assert found.instructions == 9
    assert found.memory == {"LDS.128": 1, "LDGSTS.128": 1, "STG.8": 1}
    assert found.arithmetic == {"FFMA": 2}
    assert found.loop == Loop({"FFMA": 2, "BRA": 1}, 2 + 2 + 4)


def test_a_loop_is_what_is_in_no_loop_inside_it():
    text = LISTING.replace("FFMA", "IADD3", 2).replace("LDS.128", "FFMA.FTZ")
    assert disassembly.code_of(text, 40, 0, 0).loop == Loop({"FFMA": 1, "LDGSTS": 1, "BRA": 1}, 5 + 2 + 4)


@pytest.mark.parametrize(
    ("architecture", "threads", "registers", "shared", "blocks"),
    [
        ("sm_90", 256, 32, 0, 8),  # 64 warps
        ("sm_90", 256, 40, 0, 6),  # registers
        ("sm_90", 128, 168, 0, 3),
        ("sm_90", 128, 128, 0, 4),  # 16 warps hold all registers
        ("sm_90", 512, 128, 90_000, 1),
        ("sm_90", 128, 32, 34816, 6),  # of 228 KiB of shared memory
        ("sm_90", 64, 32, 60_000, 3),
        ("sm_90", 32, 16, 0, 32),  # blocks
        ("sm_80", 128, 32, 34816, 4),  # of 164 KiB
        ("sm_80", 64, 16, 163 * 1024, 1),
        ("sm_86", 256, 32, 0, 6),  # 48 warps
        ("sm_86", 32, 16, 0, 16),
        ("sm_86", 64, 32, 99 * 1024, 1),  # of 100 KiB, with the reserved one
        ("sm_89", 32, 16, 0, 24),
        ("sm_89", 256, 40, 0, 6),
        ("sm_100", 256, 32, 0, 8),
        ("sm_100", 64, 32, 60_000, 3),
        ("sm_120", 256, 32, 0, 6),
        ("sm_120", 32, 16, 0, 24),
        ("sm_120", 128, 32, 34816, 2),
    ],
)
def test_occupancy(architecture, threads, registers, shared, blocks):
    assert occupancy.resident_blocks(architecture, threads, registers, shared) == blocks


def test_a_kernel_of_multiply_adds_alone_takes_their_time():
    """132 multiprocessors, ten blocks each, 128 multiply-adds a cycle."""
    per_block = 128 * 100_000
    found = model.predict(launch(1320, per_block), code(), GPU)
    assert found.microseconds["FP32 lanes"] == pytest.approx((10 * 100_000 + 1500) / 1980)
    assert found.binding == "issue slots"  # 545 instructions for 512
    assert found.total == pytest.approx(found.microseconds["FP32 lanes"] * 545 / 512, rel=0.01)
    assert found.balance == 1


def test_one_block_too_many_is_a_turn_more():
    even, odd = (model.predict(launch(grid, 10**7), code(), GPU) for grid in (132, 133))
    assert (even.busiest, odd.busiest) == (1, 2)
    assert odd.microseconds["FP32 lanes"] > 1.9 * even.microseconds["FP32 lanes"]
    assert even.binding == "latency of few warps"  # a warp a scheduler needs 600 cycles for 545 instructions


def test_bank_conflicts_bind_the_pipe_of_shared_memory():
    access = Access(("x.cu:1",), "shared", None, "load", 4, 1000, 32_000, 128_000, 32_000, 1000)
    found = model.predict(launch(1320, 128 * 1000, [access]), code(), GPU)
    assert found.binding == "shared-memory pipe"
    assert found.total == pytest.approx((10 * 32_000 + 1500) / 1980)


def test_memory_of_a_copy():
    load = Access(("x.cu:1",), "global", 0, "load", 4, 8, 256, 1024, 32, 32)
    found = model.predict(
        launch(4096, 0, [load, replace(load, kind="store")], 256), code(arithmetic={}, loop=None), GPU
    )
    assert found.microseconds["DRAM"] == pytest.approx(2 * (4 << 20) / 3350e3 + 1500 / 1980)


def test_memory_of_a_part_is_what_is_touched():
    """Of an array of 4 MB, 256 blocks load 32 sectors each; the array is no bound from 4096 blocks on."""
    load = Access(("x.cu:1",), "global", 0, "load", 4, 8, 256, 1024, 32, 32)
    assert [model.array_bytes(launch(grid, 0, [load])) for grid in (256, 4096, 5000)] == [1 << 18, 4 << 20, 4 << 20]
    assert model.array_bytes(launch(256, 0, [load, load, replace(load, kind="atomic")])) == 4 * (1 << 18)


def test_products_of_matrices():
    found = model.predict(launch(132, 0, calls={"mma.sync m16n8k8": 32 * 1000, "ldmatrix": 32}), code(), GPU)
    assert found.microseconds["tensor cores"] == pytest.approx((1000 / 0.62 + 1500) / 1830)
    group = model.predict(launch(132, 0, calls={"wgmma m64n64k8": 4 * 32 * 1000}), code(), GPU)
    assert group.microseconds["tensor cores"] == pytest.approx((32 * 1000 + 1500) / 1830)
    assert group.microseconds["shared-memory pipe"] == pytest.approx((16 * 1000 + 1500) / 1980)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "operation is 'nonsense', expected conv2d_forward or"),
        (["conv2d_forward", "--layer", "conv9"], "layer is 'conv9', expected conv1 or conv2"),
        (["dense_forward", "--layer", "conv1"], "layer is 'conv1', expected dense1 or"),
        (["conv2d_forward", "--version", "best"], "version is 'best', expected naive or"),
        (["conv2d_forward", "--gpu", "A100"], "GPU is 'A100', expected H100 or H200"),
        (["conv2d_forward", "--batch", "0"], "batch is 0, expected 1 or more images"),
        (["conv2d_forward", "--blocks", "0"], "blocks is 0, expected 1 or more"),
    ],
)
def test_what_is_unknown_is_one_sentence(arguments, message):
    with pytest.raises(InputError, match=f"^{message}") as refused:
        kernel_report.main(arguments)
    assert "\n" not in str(refused.value)


@pytest.mark.gxx
def test_without_a_compiler_for_the_gpu_the_trace_is_there(monkeypatch, capsys, tmp_path):
    def missing():
        raise InputError("no nvdisasm; pip install nvidia-cuda-nvdisasm")

    monkeypatch.setattr(disassembly, "require", missing)
    out = tmp_path / "report.json"
    assert kernel_report.main(["relu_forward", "--batch", "1", "--blocks", "2", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "no prediction: no nvdisasm; pip install nvidia-cuda-nvdisasm" in printed
    assert "µs" not in printed
    (version,) = json.loads(out.read_text())["versions"]
    (row,) = version["launches"]
    assert row["kernel"] == "relu_forward"
    assert row["code"] is row["predicted"] is None
    assert [(each["kind"], each["cost"], each["ideal"]) for each in row["accesses"]] == [
        ("load", 64, 64),
        ("store", 64, 64),
    ]


@pytest.mark.gxx
@pytest.mark.nvrtc
def test_a_whole_report(capsys):
    try:
        disassembly.require()
    except InputError as error:  # a machine with a GPU has NVRTC, and need not have nvdisasm
        pytest.skip(str(error))
    assert kernel_report.main(["relu_forward", "--batch", "1", "--gpu", "H200"]) == 0
    printed = capsys.readouterr().out
    for part in ("relu_forward", "registers", "argument 0", "PREDICTED on H200 SXM, not measured", "bound by"):
        assert part in printed


@pytest.mark.gxx
@pytest.mark.parametrize("operation", kernel_report.CONVOLUTIONS)
def test_chosen_versions_ask_no_more_than_recorded(operation):
    found = kernel_memory.measure(operation, "conv3", chosen_in=("fp32", "tf32"))
    assert len({row.version for row in found}) == 2
    assert kernel_memory.problems(found, kernel_memory.read()) == []


@pytest.mark.gxx
@pytest.mark.slow
@pytest.mark.parametrize("call", kernel_memory.CALLS, ids="-".join)
def test_no_version_asks_more_than_recorded(call):
    assert kernel_memory.problems(kernel_memory.measure(*call), kernel_memory.read()) == []


def test_what_came_back_is_a_problem():
    row = kernel_memory.Row("conv2d_forward", "conv2", "tiled", "conv2d_forward_tiled", 110, 100, 300, 300)
    recorded = {row.key: row}
    assert kernel_memory.problems([row, replace(row, sectors=50, ideal_sectors=50)], recorded) == []
    (conflicts,) = kernel_memory.problems([replace(row, wavefronts=600)], recorded)
    assert "wavefronts are 2.00 times the ideal, recorded 1.00" in conflicts
    (unknown,) = kernel_memory.problems([replace(row, layer="conv3")], recorded)
    assert "is not in kernel_memory.json" in unknown
