//! An assembler for eBPF: what [`program`](super::program) says, as the kernel's verifier takes it.
//!
//! Instructions are those of `linux/bpf.h`, and no more of them than are used here. Jumps go to a [`Label`], which may be put
//! down later. A label that never is, or one too far away, is a bug of whoever assembles: [`Assembler::finish`] panics.

use std::os::fd::{AsRawFd, BorrowedFd};

/// An instruction as the kernel reads it: `struct bpf_insn`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Insn {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const _: () = assert!(size_of::<Insn>() == 8);

// linux/bpf_common.h, linux/bpf.h: classes
const LD: u8 = 0x00;
const LDX: u8 = 0x01;
const ST: u8 = 0x02;
const STX: u8 = 0x03;
const ALU: u8 = 0x04;
const JMP: u8 = 0x05;
const JMP32: u8 = 0x06;
const ALU64: u8 = 0x07;
// Modes, sources, and operations that are no enum's.
const MEM: u8 = 0x60;
const DOUBLE_WORD: u8 = 0x18;
const REGISTER: u8 = 0x08;
const END_TO_BE: u8 = 0xd8;
const JA: u8 = 0x00;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
const PSEUDO_MAP_FD: u8 = 1;
const PSEUDO_KFUNC_CALL: u8 = 2;

/// A register. `R0` is what a call returns and the program's verdict, `R1` to `R5` are arguments and lost by a call, `R6` to
/// `R9` are kept, `R10` points past the end of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// How much is loaded or stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Word = 0x00,
    Half = 0x08,
    Byte = 0x10,
}

/// What is done to a register, in 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alu {
    Add = 0x00,
    And = 0x50,
    ShiftLeft = 0x60,
    Move = 0xb0,
}

/// When a jump is taken; numbers have no sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Equal = 0x10,
    Above = 0x20,
    NotEqual = 0x50,
    Below = 0xa0,
}

/// The other side of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    /// A register.
    Register(Reg),
    /// A number.
    Number(i32),
}

impl From<Reg> for Operand {
    fn from(register: Reg) -> Self {
        Self::Register(register)
    }
}

impl From<i32> for Operand {
    fn from(number: i32) -> Self {
        Self::Number(number)
    }
}

impl From<u16> for Operand {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

/// A place in the program, which jumps may go to before it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program that is being written.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    instructions: Vec<Insn>,
    /// Where each label is, as the number of an instruction.
    labels: Vec<Option<usize>>,
    /// Jumps and where they go.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// An empty program.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A label that is nowhere yet.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts a label before the next instruction.
    ///
    /// # Panics
    ///
    /// When it is somewhere already.
    pub(super) fn put(&mut self, label: Label) {
        let place = self.labels[label.0].replace(self.instructions.len());
        assert!(place.is_none(), "a label has one place");
    }

    /// `to = *(size *)(from + offset)`, widened with zeros, in the byte order of the machine.
    pub(super) fn load(&mut self, size: Size, to: Reg, from: Reg, offset: i16) {
        self.push(LDX | MEM | size as u8, to, from as u8, offset, 0);
    }

    /// `*(size *)(to + offset) = from`
    pub(super) fn store(&mut self, size: Size, to: Reg, offset: i16, from: impl Into<Operand>) {
        match from.into() {
            Operand::Register(from) => {
                self.push(STX | MEM | size as u8, to, from as u8, offset, 0);
            }
            Operand::Number(number) => self.push(ST | MEM | size as u8, to, 0, offset, number),
        }
    }

    /// `to = to OPERATION with`; a number is widened with its sign.
    pub(super) fn alu(&mut self, operation: Alu, to: Reg, with: impl Into<Operand>) {
        self.operate(ALU64 | operation as u8, to, with.into(), 0);
    }

    /// `to = with`
    pub(super) fn set(&mut self, to: Reg, with: impl Into<Operand>) {
        self.alu(Alu::Move, to, with);
    }

    /// Turns the lower 16 bits of a register between network byte order and that of the machine; the rest becomes zero.
    pub(super) fn swap_from_network(&mut self, register: Reg) {
        self.push(ALU | END_TO_BE, register, 0, 0, 16);
    }

    /// `to = ` the map behind a descriptor.
    pub(super) fn load_map(&mut self, to: Reg, map: BorrowedFd<'_>) {
        self.push(LD | DOUBLE_WORD, to, PSEUDO_MAP_FD, 0, map.as_raw_fd());
        // The upper half of the constant.
        self.push(0, Reg::R0, 0, 0, 0);
    }

    /// Jumps.
    pub(super) fn jump(&mut self, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.push(JMP | JA, Reg::R0, 0, 0, 0);
    }

    /// Jumps if `left CONDITION right` in 64 bits; a number is widened with its sign.
    pub(super) fn jump_if(
        &mut self,
        left: Reg,
        condition: Condition,
        right: impl Into<Operand>,
        to: Label,
    ) {
        self.jumps.push((self.instructions.len(), to));
        self.operate(JMP | condition as u8, left, right.into(), 0);
    }

    /// Jumps if `left CONDITION right` in their lower 32 bits.
    pub(super) fn jump_if_word(
        &mut self,
        left: Reg,
        condition: Condition,
        right: impl Into<Operand>,
        to: Label,
    ) {
        self.jumps.push((self.instructions.len(), to));
        self.operate(JMP32 | condition as u8, left, right.into(), 0);
    }

    /// Calls a helper by its number.
    pub(super) fn call(&mut self, helper: i32) {
        self.push(JMP | CALL, Reg::R0, 0, 0, helper);
    }

    /// Calls a function of the kernel by its number in the kernel's BTF.
    pub(super) fn call_kernel(&mut self, function: i32) {
        self.push(JMP | CALL, Reg::R0, PSEUDO_KFUNC_CALL, 0, function);
    }

    /// Ends the program with what is in `R0`.
    pub(super) fn exit(&mut self) {
        self.push(JMP | EXIT, Reg::R0, 0, 0, 0);
    }

    /// The program, every jump with its distance.
    ///
    /// # Panics
    ///
    /// When a jump goes to a label that is nowhere, behind the last instruction, or too far away.
    pub(super) fn finish(mut self) -> Vec<Insn> {
        for (from, label) in self.jumps {
            let to = self.labels[label.0].expect("a label that is jumped to is put somewhere");
            assert!(to < self.instructions.len(), "a jump stays in the program");
            let distance = to
                .checked_signed_diff(from + 1)
                .and_then(|distance| i16::try_from(distance).ok());
            self.instructions[from].offset =
                distance.expect("a filter as long as the arguments of a port reaches not so far");
        }
        self.instructions
    }

    fn operate(&mut self, code: u8, to: Reg, with: Operand, offset: i16) {
        match with {
            Operand::Register(from) => self.push(code | REGISTER, to, from as u8, offset, 0),
            Operand::Number(number) => self.push(code, to, 0, offset, number),
        }
    }

    /// `from` is a register, or what a call or a constant is.
    fn push(&mut self, code: u8, to: Reg, from: u8, offset: i16, immediate: i32) {
        let to = to as u8;
        // Two bit fields of four bits, which a compiler lays out as the machine orders bytes.
        let registers = if cfg!(target_endian = "little") {
            to | from << 4
        } else {
            to << 4 | from
        };
        self.instructions.push(Insn {
            code,
            registers,
            offset,
            immediate,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insn(code: u8, registers: u8, offset: i16, immediate: i32) -> Insn {
        Insn {
            code,
            registers,
            offset,
            immediate,
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn instructions_are_encoded_as_the_kernel_has_them() {
        let mut asm = Assembler::new();
        asm.load(Size::Half, Reg::R2, Reg::R7, 12);
        asm.store(Size::Word, Reg::R10, -4, 7);
        asm.store(Size::Byte, Reg::R10, -8, Reg::R3);
        asm.alu(Alu::Add, Reg::R7, Reg::R2);
        asm.set(Reg::R0, 2);
        asm.swap_from_network(Reg::R2);
        asm.call(51);
        asm.call_kernel(1234);
        asm.exit();
        // As clang and `llvm-objdump` write them.
        assert_eq!(
            asm.finish(),
            [
                insn(0x69, 0x72, 12, 0),
                insn(0x62, 0x0a, -4, 7),
                insn(0x73, 0x3a, -8, 0),
                insn(0x0f, 0x27, 0, 0),
                insn(0xb7, 0x00, 0, 2),
                insn(0xdc, 0x02, 0, 16),
                insn(0x85, 0x00, 0, 51),
                insn(0x85, 0x20, 0, 1234),
                insn(0x95, 0x00, 0, 0),
            ]
        );
    }

    #[test]
    fn jumps_count_from_the_instruction_behind_them() {
        let mut asm = Assembler::new();
        let (start, end) = (asm.label(), asm.label());
        asm.put(start);
        asm.jump_if(Reg::R1, Condition::Equal, 3, end);
        asm.jump_if_word(Reg::R1, Condition::Above, Reg::R2, end);
        asm.jump(start);
        asm.put(end);
        asm.exit();
        let program = asm.finish();
        let jumps: Vec<_> = program
            .iter()
            .map(|insn| (insn.code, insn.offset))
            .collect();
        assert_eq!(jumps, [(0x15, 2), (0x2e, 1), (0x05, -3), (0x95, 0)]);
    }

    #[test]
    #[should_panic(expected = "put somewhere")]
    fn label_that_is_nowhere_is_a_bug() {
        let mut asm = Assembler::new();
        let nowhere = asm.label();
        asm.jump(nowhere);
        asm.finish();
    }

    #[test]
    #[should_panic(expected = "stays in the program")]
    fn jump_behind_the_end_is_a_bug() {
        let mut asm = Assembler::new();
        let end = asm.label();
        asm.jump(end);
        asm.put(end);
        asm.finish();
    }

    #[test]
    #[should_panic(expected = "reaches not so far")]
    fn jump_too_far_is_a_bug() {
        let mut asm = Assembler::new();
        let end = asm.label();
        asm.jump(end);
        (0..40_000).for_each(|_| asm.set(Reg::R0, 0));
        asm.put(end);
        asm.exit();
        asm.finish();
    }
}
