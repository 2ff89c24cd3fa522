"""What the compiler made of a kernel: registers, memory, and the instructions of its main loop.

This is the code that a launch loads onto a device of the given compute capability: Numba compiles
the kernel to LTO-IR, nvJitLink links that to machine code, ``nvdisasm`` disassembles it. (What
ptxas makes of the kernel's PTX can differ.) No device is needed.
"""

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cuda.pathfinder import find_nvidia_binary_utility

from kernels.device import compiling

# Classes of instructions by the beginning of their opcode; the first match counts
CLASSES = {
    "multiply-add": ("FFMA", "DFMA"),
    "LDS": ("LDS",),
    "STS": ("STS",),
    "LDG": ("LDG", "LD."),
    "STG": ("STG", "ST."),
    "local": ("LDL", "STL"),
    "barrier": ("BAR",),
    "branch": ("BRA", "BRX", "BSSY", "BSYNC", "CALL", "EXIT", "RET", "WARPSYNC", "YIELD"),
    "float": ("FADD", "FMUL", "FSEL", "FSET", "FMNMX", "MUFU", "DADD", "DMUL", "DSET"),
    "constant": ("LDC", "ULDC"),
}
# Everything else computes indices, moves and compares
INTEGER = "integer"
# Jumps to a label without return; before compute capability 9.0 such a call can end a loop
JUMPS = ("BRA", "CALL.REL.NOINC")
# Instructions whose width in bits is part of their class: LDS 128
WIDE = ("LDS", "STS", "LDG", "STG")
# Size of an instruction since Volta
INSTRUCTION_BYTES = 16


@dataclass(frozen=True)
class MachineCode:
    """A compiled kernel.

    Attributes:
        registers: registers of a thread, of 32 bits.
        local_bytes: local memory of each thread: spilled registers, and arrays without registers.
        shared_bytes: shared memory of each block.
        barriers: barriers that a block uses.
        instructions: number of instructions of each class.
        main_loop: the same for what a turn of its main loop executes, with all turns of loops
            within it; empty without a loop. That is an innermost loop, the one with most
            multiply-adds, or the longest: if possible among the loops that have both multiply-adds
            and a barrier, else among those that have multiply-adds.
        loop_bytes: bytes of the main loop's code.
        text: the disassembly.
    """

    registers: int
    local_bytes: int
    shared_bytes: int
    barriers: int
    instructions: Counter
    main_loop: Counter
    loop_bytes: int
    text: str

    @property
    def multiply_add_share(self) -> float:
        """Share of multiply-adds among the instructions that the main loop executes."""
        return self.main_loop["multiply-add"] / max(1, self.main_loop.total())


def read(kernel, arguments, capability: tuple[int, int]) -> MachineCode:
    """The machine code of a kernel.

    Args:
        kernel: what ``api.kernel`` returned.
        arguments: arrays and scalars like those of a launch.
        capability: compute capability, for instance (9, 0).

    Raises:
        RuntimeError: there is no disassembler; the message names the package that brings it.
    """
    disassembler = find_disassembler()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(compiling.machine_code(kernel, arguments, capability))
        command = [disassembler, path]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return parse(text, kernel.turns)


def find_disassembler() -> str:
    """The path of ``nvdisasm``.

    Raises:
        RuntimeError: it is not installed; the message names the package that brings it.
    """
    path = find_nvidia_binary_utility("nvdisasm")
    if path is None:
        raise RuntimeError(
            "nvdisasm, the disassembler of the CUDA toolkit, was not found; "
            "pip install nvidia-cuda-nvdisasm brings it"
        )
    return path


def parse(text: str, turns: int = 1) -> MachineCode:
    """The machine code of the one kernel in the output of ``nvdisasm``.

    Args:
        turns: iterations of each loop within the main loop.
    """
    instructions, targets = _instructions(text)
    loops = _loops(_successors(instructions, targets))
    main_loop = _main_loop(instructions, loops)
    within = set().union(*(loop for loop in loops if set(loop) < set(main_loop)))
    executed = Counter()
    for i in main_loop:
        executed[classify(instructions[i][1])] += turns if i in within else 1
    return MachineCode(
        registers=_attribute(text, "REGCOUNT"),
        local_bytes=_attribute(text, "FRAME_SIZE"),
        shared_bytes=sum(map(int, re.findall(r"\n\.nv\.shared\..*:\n\s*\.zero\s+(\d+)", text))),
        barriers=_attribute(text, "NUM_BARRIERS"),
        instructions=Counter(classify(opcode) for _, opcode, _ in instructions),
        main_loop=executed,
        loop_bytes=INSTRUCTION_BYTES * len(main_loop),
        text=text,
    )


def classify(opcode: str) -> str:
    """The class of an instruction, such as ``LDS 128`` of LDS.U.128."""
    for name, beginnings in CLASSES.items():
        if opcode.startswith(beginnings):
            width = re.search(r"\.(64|128)\b", opcode)
            return f"{name} {width[1] if width else 32}" if name in WIDE else name
    return INTEGER


def _is_multiply_add(opcode):
    return opcode.startswith(CLASSES["multiply-add"])


def _attribute(text, name):
    """The largest number in the entries of a name in the table of attributes; 0 without one."""
    entries = re.findall(rf"EIATTR_{name}\n(.*?)\n\n", text, re.DOTALL)
    numbers = [re.findall(r"\s(0x\w+)$", entry, re.MULTILINE)[-1] for entry in entries]
    return max((int(number, 16) for number in numbers), default=0)


def _instructions(text):
    """[(predicated, opcode, label it jumps to)] and {label: position} of the kernel's code."""
    instructions, targets = [], {}
    code = text[text.index(".section\t.text.") :]
    line = re.compile(r"\s+/\*\w{4,}\*/\s+(@!?\w+ )?\s*([A-Z][\w.]+)(?:[^`;]*`\((\.L_\w+)\))?")
    for text_line in code.splitlines():
        if text_line.startswith("//-----"):
            break
        if label := re.match(r"(\.L_\w+):", text_line):
            targets[label[1]] = len(instructions)
        elif parts := line.match(text_line):
            instructions.append((bool(parts[1]), parts[2], parts[3]))
    return instructions, targets


def _main_loop(instructions, loops):
    """Positions of the main loop's instructions."""
    opcodes = [opcode for _, opcode, _ in instructions]

    def sums(loop):
        return sum(_is_multiply_add(opcodes[i]) for i in loop)

    def waits(loop):
        return any(opcodes[i].startswith("BAR") for i in loop)

    loops = [loop for loop in loops if sums(loop)] or loops
    loops = [loop for loop in loops if waits(loop)] or loops
    innermost = [loop for loop in loops if not any(set(other) < set(loop) for other in loops)]
    return max(innermost, key=lambda loop: (sums(loop), len(loop)), default=())


def _successors(instructions, targets):
    """For each instruction, the positions of those that can follow it."""
    successors = []
    for i, (predicated, opcode, label) in enumerate(instructions):
        jumps = label is not None and opcode.startswith(JUMPS)
        ends = opcode.startswith(("EXIT", "RET")) or jumps
        after = {i + 1} if i + 1 < len(instructions) and (predicated or not ends) else set()
        successors.append(after | ({targets[label]} if jumps else set()))
    return successors


def _loops(successors):
    """The natural loops: from each instruction that dominates one that jumps back to it."""
    count = len(successors)
    predecessors = [set() for _ in range(count)]
    for i, following in enumerate(successors):
        for j in following:
            predecessors[j].add(i)

    def reaching(ends, without):
        """Positions from which ``ends`` are reached, but not through ``without``."""
        reached, waiting = {without}, list(ends)
        while waiting:
            i = waiting.pop()
            if i not in reached:
                reached.add(i)
                waiting.extend(predecessors[i])
        return reached

    backward = {}
    for i, following in enumerate(successors):
        for j in following:
            if j <= i:
                backward.setdefault(j, []).append(i)
    loops = (reaching(ends, header) for header, ends in backward.items())
    # A loop that the first instruction reaches without its header is not dominated by that
    return [sorted(loop) for header, loop in zip(backward, loops) if header == 0 or 0 not in loop]
