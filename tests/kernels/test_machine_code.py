"""Checks of the kernels' machine code: registers of running products, unseen spills, serialised products."""

import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

from benchmarks.profile import kernel_resources, toolchains
from benchmarks.profile.disassembly import listings, local_accesses, require
from benchmarks.profile.nvrtc_versions import HERE
from benchmarks.profile.wgmma_hazards import hazards
from gzkern.errors import InputError
from gzkern.runtime import source

pytestmark = pytest.mark.nvrtc

WGMMA = [kernel for kernel in kernel_resources.tiled_kernels("sm_90a") if "wgmma" in kernel.name]
"""The wgmma kernels that an H100 runs for the published network."""

each_compiler = pytest.mark.parametrize("toolchain", [HERE, pytest.param("13.0", marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def nvdisasm(lacking):
    """Require nvdisasm, for tests that disassemble."""
    try:
        require()
    except InputError as error:
        lacking("nvrtc", str(error))


@pytest.fixture(scope="module")
def products(compiler, nvdisasm):
    """Call with a compiler for what it says of the kernels with warpgroup products, and their listings, by kernel."""

    @cache
    def of(name):
        futures = {kernel: compiler(name).submit(source.load(kernel.file, kernel.tile), "sm_90a") for kernel in WGMMA}
        programs = {kernel: future.result().program for kernel, future in futures.items()}
        with ThreadPoolExecutor() as pool:
            codes = pool.map(listings, (program.code for program in programs.values()))
            return {kernel: (programs[kernel], code[kernel.name]) for kernel, code in zip(programs, codes, strict=True)}

    return of


@each_compiler
def test_no_register_of_a_running_product_is_touched(toolchain, products):
    for kernel, (_, listing) in products(toolchain).items():
        assert "HGMMA" in listing
        assert hazards(listing) == [], kernel


def test_every_kernel_has_hazards_where_its_waits_are_hidden(products):
    """Else the test above would find nothing."""
    for kernel, (_, listing) in products(HERE).items():
        hidden = re.sub(r"WARPGROUP\.DEPBAR\.LE gsb0, 0x\w+", "NOP", listing)
        assert len(hazards(hidden)) > 50, kernel


@each_compiler
def test_no_products_are_serialised(toolchain, products):
    for kernel, (program, _) in products(toolchain).items():
        assert toolchains.warnings(program) == [], kernel


@each_compiler
def test_products_leave_local_memory_alone_but_for_recorded_spills(toolchain, products):
    for kernel, (program, listing) in products(toolchain).items():
        row = kernel_resources.tile_row(program, kernel, "sm_90a")
        assert bool(local_accesses(listing)) == row.spills, row


@each_compiler
@pytest.mark.parametrize("file", ["conv2d/backward_weights_wgmma", "conv2d/forward_wgmma"])
def test_the_compiler_s_word_of_a_missing_wait_is_found(toolchain, file, compiler, tmp_path):
    """It puts waits in where the source has none, after each product if need be."""
    path = tmp_path / f"{Path(file).name}.cu"
    text, waits = re.subn(r'WGMMA_ASM\("wgmma\.wait_group[^\n]*', "", source.load(file).text)
    assert waits == 1
    path.write_text(text)
    tile = next(kernel.tile for kernel in WGMMA if kernel.file == file)
    program = compiler(toolchain).submit(source.load(path, tile), "sm_90a").result().program
    assert re.search("Potential Performance Loss|injected", " ".join(toolchains.warnings(program)))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", kernel_resources.GPUS)
def test_no_local_memory_beyond_the_recorded_spills(architecture, compiler, nvdisasm):
    futures = [compiler(HERE).submit(source.load(stem), architecture) for stem in source.stems()]
    programs = [future.result().program for future in futures]
    with ThreadPoolExecutor() as pool:
        codes = list(pool.map(listings, (program.code for program in programs)))
    for program, code in zip(programs, codes, strict=True):
        for row in kernel_resources.rows_of(program, architecture):
            assert bool(local_accesses(code[row.kernel])) == row.spills, row


CODE = "/* 0x0000000000000000 */"
LINE = f"        /*{{address:04x}}*/                   {{words}} ;  {CODE}\n        {CODE}\n"


def listing(*lines):
    """Instructions, and labels such as ".L_x_0:", as nvdisasm prints them."""
    address, text = 0, ""
    for line in lines:
        if line.endswith(":"):
            text += f"{line}\n"
        else:
            text += LINE.format(address=address, words=line)
            address += 16
    return text


PRODUCT = "HGMMA.64x16x8.F32.TF32 R24, R4, gdesc[UR8], R24"  # sums R24 to R31, A R4 to R7
GROUP = f"{PRODUCT}, gsb0"
SAME_A = "HGMMA.64x16x8.F32.TF32 R40, R4, gdesc[UR8], RZ, !UPT, gsb0"
WAIT, WAIT_FOR_ALL_BUT_ONE = "WARPGROUP.DEPBAR.LE gsb0, 0x0", "WARPGROUP.DEPBAR.LE gsb0, 0x1"


@pytest.mark.parametrize(
    "lines",
    [
        (GROUP, WAIT, "FADD R0, R24, R31"),
        (GROUP, "FADD R0, R23, R32", WAIT),
        (GROUP, "FADD R0, R4, R7", WAIT),  # A is read
        (GROUP, "STG.E.128 [R6.64], R4", WAIT),
        (GROUP, "LDS.128 R8, [R7]", WAIT),
        (GROUP, "ISETP.GE.U32.AND P0, PT, R4, UR4, PT", WAIT),
        (GROUP, "SHFL.IDX PT, R8, R4, RZ, 0x1f", WAIT),
        (GROUP, "R2UR UR24, R4", "UMOV UR24, 0x1", WAIT),
        (PRODUCT, GROUP, SAME_A, WAIT),
        ("MOV R24, 0x1", GROUP, WAIT, "MOV R24, 0x2"),
        (GROUP, SAME_A, WAIT_FOR_ALL_BUT_ONE, "FADD R0, R24, R24"),
    ],
)
def test_what_is_no_hazard(lines):
    assert hazards(listing(*lines, "EXIT")) == []


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        ((GROUP, "FADD R0, R24, R1", WAIT), "0010: FADD"),
        ((GROUP, "MOV R31, 0x1", WAIT), "0010: MOV"),
        ((PRODUCT, "MOV R31, 0x1", GROUP, WAIT), "0010: MOV"),  # before its group is closed
        ((GROUP, "@P0 MOV R31, 0x1", WAIT), "0010: MOV"),
        ((GROUP, "LDS.128 R4, [R0]", WAIT), "0010: LDS.128"),  # A is written
        ((GROUP, "LDS.128 R20, [R31]", WAIT), "0010: LDS.128"),  # an address
        ((GROUP, "LDS.128 R22, [R0]", WAIT), "0010: LDS.128"),  # by its last two registers
        ((GROUP, "IMAD.WIDE.U32 R6, R8, 0x4, R10", WAIT), "0010: IMAD.WIDE"),
        ((GROUP, "SHFL.IDX PT, R7, R8, RZ, 0x1f", WAIT), "0010: SHFL"),
        ((GROUP, "STS.64 [R0], R30", WAIT), "0010: STS"),
        ((GROUP, "LDG.E R0, [R30.64]", WAIT), "0010: LDG"),
        ((GROUP, SAME_A, WAIT_FOR_ALL_BUT_ONE, "FADD R0, R24, R40"), "0030: FADD"),
        ((GROUP, GROUP, WAIT_FOR_ALL_BUT_ONE, "FADD R0, R24, R24"), "0030: FADD"),
        ((GROUP, "HGMMA.64x16x8.F32.TF32 R28, R8, gdesc[UR8], R28, gsb0", WAIT), "0010: HGMMA"),  # other sums overlap
        ((GROUP, "HGMMA.64x16x8.F32.TF32 R40, R28, gdesc[UR8], R40, gsb0", WAIT), "0010: HGMMA"),  # A of sums
        ((GROUP, "HGMMA.64x16x8.F32.TF32 R0, R40, gdesc[UR8], R0, gsb0", WAIT), "0010: HGMMA"),  # sums of A
    ],
)
def test_what_is_a_hazard(lines, first):
    (found,) = hazards(listing(*lines, "EXIT"))
    assert found.startswith(first)


def test_hazards_of_the_next_turn_of_a_loop():
    loop = (".L_x_0:", "FADD R0, R24, R1", GROUP, "{wait}", "@P0 BRA `(.L_x_0)", WAIT, "EXIT")
    assert hazards(listing(*(line.format(wait=WAIT) for line in loop))) == []
    assert hazards(listing(*(line.format(wait=WAIT_FOR_ALL_BUT_ONE) for line in loop))) == ["0000: FADD R0, R24, R1"]


def test_hazards_behind_a_branch_alone():
    """A path that waits, and one that jumps over the wait."""
    lines = (GROUP, "BRA P0, `(.L_x_0)", WAIT, ".L_x_0:", "MOV R24, 0x1", "EXIT")
    assert hazards(listing(*lines)) == ["0030: MOV R24, 0x1"]
    lines = (GROUP, "@P0 EXIT", WAIT, "BRA `(.L_x_0)", "MOV R24, 0x1", ".L_x_0:", "MOV R25, 0x1", "EXIT")
    assert hazards(listing(*lines)) == []
    lines = (GROUP, "BRA `(.L_x_0)", "MOV R24, 0x1", ".L_x_0:", "EXIT")
    assert hazards(listing(*lines)) == []


def test_hazards_of_more_groups_than_a_wait_can_leave():
    others = [f"HGMMA.64x16x8.F32.TF32 R{r}, R8, gdesc[UR8], R{r}, gsb0" for r in range(40, 120, 8)]
    lines = (GROUP, *others, "WARPGROUP.DEPBAR.LE gsb0, 0x7", "MOV R24, 0x1", "MOV R112, 0x1", "EXIT")
    assert hazards(listing(*lines)) == ["00d0: MOV R112, 0x1"]
    assert hazards(listing(GROUP, *others, "MOV R24, 0x1", "EXIT")) == ["00b0: MOV R24, 0x1"]


def test_an_unknown_product_is_refused():
    with pytest.raises(ValueError, match="not understood: 0000: HGMMA"):
        hazards(listing("HGMMA.64x16x8.F32.TF32 R24, gdesc[UR8], R24, gsb0", "EXIT"))


def test_local_accesses_are_counted():
    lines = ("LDL.64 R2, [R1]", "STL [R1+0x8], R4", "LDS R0, [R1]", "EXIT")
    assert local_accesses(listing(*lines)) == 2
