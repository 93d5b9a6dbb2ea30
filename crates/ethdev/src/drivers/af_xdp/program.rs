//! The XDP program that a [`Filter`] stands for.
//!
//! ```text
//! Ethernet, 0 to 2 tags -+- ARP ---- target ours ----------------------------------------> match
//!                        +- IPv4 --- ours --+---------------------- later fragment --+
//!                        |                  +- TCP, UDP: port; ICMP ----------------> match
//!                        +- IPv6 --- ours ----- 0 to 6 extensions --+- later fragment, TCP, UDP, ICMP as above
//!                                    not ours - 0 to 6 extensions --+- ND, target ours -> match
//! ```
//!
//! What matches goes to the AF_XDP socket of the queue that it came by, if that has one; all else, and what is cut short, to
//! the kernel. Nothing is written, and each load has been checked against the end of the frame: the verifier sees to that.
//!
//! If the device has something to say of the frame, that is put [before it](super::metadata) as it goes to its socket.
//!
//! The program is straight: no loop, no call before it knows. Its length grows with the addresses and ports of the filter,
//! which the length of a port's arguments bounds.

use std::io;
use std::mem::offset_of;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{BorrowedFd, OwnedFd};

use super::assembler::{Alu, Assembler, Condition, Insn, Label, Reg, Size};
use super::bpf::{self, Load, Mode};
use super::btf;
use super::filter::{Filter, PortRange, Ports, Protocol, Version};
use super::metadata::{self, Layout, MAGIC_WRITTEN};

// linux/bpf.h
const XDP_PASS: i32 = 2;
const REDIRECT_MAP: i32 = 51;
const XDP_ADJUST_META: i32 = 54;
/// Fields of `xdp_md`.
const MD_DATA: i16 = 0;
const MD_DATA_END: i16 = 4;
const MD_DATA_META: i16 = 8;
const MD_RX_QUEUE_INDEX: i16 = 16;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// The tags of customers and of providers.
const TAG_TYPES: [u16; 2] = [0x8100, 0x88a8];
const TAGS_MAX: usize = 2;

/// Extension headers that are walked over. RFC 8200 section 4.1 has each kind once, and destination options twice.
const EXTENSIONS_MAX: usize = 6;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// Those that say their own length.
const MEASURED: [u8; 3] = [HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS];

/// Messages of neighbour discovery: from router solicitation to redirect. RFC 4861 section 4.
const ND_FIRST: u8 = 133;
const ND_LAST: u8 = 137;
const ND_SOLICITATION: u8 = 135;
const ND_ADVERTISEMENT: u8 = 136;
/// Where their target ends.
const ND_TARGET_AT: i16 = 8;
const ND_LEN: i32 = 24;

/// `xdp_md`, for the last call.
const CONTEXT: Reg = Reg::R6;
/// The header that is looked at.
const CURSOR: Reg = Reg::R7;
/// The end of the frame.
const END: Reg = Reg::R8;
/// What the header is: an EtherType in network order, then a protocol.
const KIND: Reg = Reg::R9;

/// Functions of the kernel that ask the device about a frame. A program that calls one is loaded for one interface
/// ([`Load::device`](super::bpf::Load)), attached to it alone, and in its driver alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Questions {
    hash: Option<i32>,
    tag: Option<i32>,
}

impl Questions {
    /// Those that this kernel knows, if it knows one.
    ///
    /// # Errors
    ///
    /// That the kernel does not tell its types.
    pub(super) fn of_this_kernel() -> io::Result<Option<Self>> {
        let names = ["bpf_xdp_metadata_rx_hash", "bpf_xdp_metadata_rx_vlan_tag"];
        let [hash, tag] = btf::kernel_functions(names)?;
        Ok((hash.is_some() || tag.is_some()).then_some(Self { hash, tag }))
    }
}

/// What is done with a frame that matches.
#[derive(Debug, Clone, Copy)]
pub(super) enum OnMatch<'a> {
    /// It goes to the socket of its queue in this map; to the kernel if there is none.
    Redirect(BorrowedFd<'a>),
    /// Likewise, and what the device knows of it is put before it.
    Describe(BorrowedFd<'a>, Questions),
    #[cfg(test)]
    /// This is the verdict, whatever the sockets.
    Return(i32),
}

/// A program in the kernel, attached to nothing yet.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Its descriptor.
    pub program: OwnedFd,
    /// Whether it puts [metadata] before frames.
    pub describes: bool,
}

/// Loads the program of a filter for one interface of this thread's namespace: one that asks the device about frames where
/// that is wanted and kernel, driver and mode allow it, else one that does without.
///
/// # Errors
///
/// Those of [`bpf::load`].
pub(super) fn load(
    filter: &Filter,
    xsks: BorrowedFd<'_>,
    (ifindex, mode): (u32, Mode),
    (asks, frags): (bool, bool),
) -> io::Result<Loaded> {
    let questions = match mode {
        Mode::Native if asks => Questions::of_this_kernel().ok().flatten(),
        Mode::Native | Mode::Generic => None,
    };
    if let Some(questions) = questions {
        let how = Load {
            device: Some(ifindex),
            frags,
        };
        let program = assemble(filter, OnMatch::Describe(xsks, questions));
        // Refused by whichever of them does not know it: all that is lost are hints.
        if let Ok(program) = bpf::load(&program, how) {
            return Ok(Loaded {
                program,
                describes: true,
            });
        }
    }
    let how = Load {
        device: None,
        frags,
    };
    Ok(Loaded {
        program: bpf::load(&assemble(filter, OnMatch::Redirect(xsks)), how)?,
        describes: false,
    })
}

/// Assembles the program.
pub(super) fn assemble(filter: &Filter, on_match: OnMatch<'_>) -> Vec<Insn> {
    let mut asm = Assembler::new();
    let (matched, pass) = (asm.label(), asm.label());
    asm.set(CONTEXT, Reg::R1);
    let mut program = Program {
        asm,
        filter,
        matched,
        pass,
    };
    if !filter.is_all() {
        program.ethernet();
    }
    program.end(on_match);
    program.asm.finish()
}

/// A program that is being written, and the two ways out of it.
struct Program<'a> {
    asm: Assembler,
    filter: &'a Filter,
    matched: Label,
    pass: Label,
}

impl Program<'_> {
    /// From the start of the frame to what its EtherType says.
    fn ethernet(&mut self) {
        self.asm.load(Size::Word, CURSOR, CONTEXT, MD_DATA);
        self.asm.load(Size::Word, END, CONTEXT, MD_DATA_END);
        self.need(14);
        self.asm.load(Size::Half, KIND, CURSOR, 12);
        self.asm.alu(Alu::Add, CURSOR, 14);
        let untagged = self.asm.label();
        for _ in 0..TAGS_MAX {
            let tagged = self.asm.label();
            for kind in TAG_TYPES {
                self.asm
                    .jump_if(KIND, Condition::Equal, kind.to_be(), tagged);
            }
            self.asm.jump(untagged);
            self.asm.put(tagged);
            self.need(4);
            self.asm.load(Size::Half, KIND, CURSOR, 2);
            self.asm.alu(Alu::Add, CURSOR, 4);
        }
        self.asm.put(untagged);
        let (any, v4, v6) = (
            !self.filter.has_addresses(),
            self.filter.v4().next().is_some(),
            self.filter.v6().next().is_some(),
        );
        if v4 {
            self.when(ETHERTYPE_ARP, Self::arp);
        }
        if v4 || any {
            self.when(ETHERTYPE_IPV4, Self::ipv4);
        }
        if v6 || any {
            self.when(ETHERTYPE_IPV6, Self::ipv6);
        }
        let pass = self.pass;
        self.asm.jump(pass);
    }

    /// What `body` says, for an EtherType; it does not come back.
    fn when(&mut self, ethertype: u16, body: fn(&mut Self)) {
        let other = self.asm.label();
        self.asm
            .jump_if(KIND, Condition::NotEqual, ethertype.to_be(), other);
        body(self);
        self.asm.put(other);
    }

    /// ARP of IPv4 over Ethernet that asks for, or answers, one of the addresses. RFC 826.
    fn arp(&mut self) {
        let (pass, matched) = (self.pass, self.matched);
        self.need(28);
        // Ethernet (1), IPv4 (0x0800), addresses of 6 and 4 octets.
        let kinds = i32::from_ne_bytes([0, 1, 8, 0]);
        self.asm.load(Size::Word, Reg::R2, CURSOR, 0);
        self.asm
            .jump_if_word(Reg::R2, Condition::NotEqual, kinds, pass);
        let lengths = u16::from_ne_bytes([6, 4]);
        self.asm.load(Size::Half, Reg::R2, CURSOR, 4);
        self.asm
            .jump_if(Reg::R2, Condition::NotEqual, lengths, pass);
        let filter = self.filter;
        let asked = filter.v4().filter(|address| !filter.is_shared(*address));
        self.v4_among(asked, 24, matched);
        self.asm.jump(pass);
    }

    /// RFC 791 section 3.1.
    fn ipv4(&mut self) {
        let (pass, matched) = (self.pass, self.matched);
        self.need(20);
        self.asm.load(Size::Byte, Reg::R3, CURSOR, 0);
        self.asm.set(Reg::R2, Reg::R3);
        self.asm.alu(Alu::And, Reg::R2, 0xf0);
        self.asm.jump_if(Reg::R2, Condition::NotEqual, 0x40, pass);
        self.asm.alu(Alu::And, Reg::R3, 0x0f);
        self.asm.jump_if(Reg::R3, Condition::Below, 5, pass);
        if self.filter.has_addresses() {
            let ours = self.asm.label();
            self.v4_among(self.filter.v4(), 16, ours);
            self.asm.jump(pass);
            self.asm.put(ours);
        }
        if self.filter.named().is_none() {
            self.asm.jump(matched);
            return;
        }
        self.asm.load(Size::Byte, KIND, CURSOR, 9);
        self.asm.load(Size::Half, Reg::R2, CURSOR, 6);
        // In words of four octets.
        self.asm.alu(Alu::ShiftLeft, Reg::R3, 2);
        self.asm.alu(Alu::Add, CURSOR, Reg::R3);
        self.asm.jump_if(CURSOR, Condition::Above, END, pass);
        let later = self.asm.label();
        self.asm
            .alu(Alu::And, Reg::R2, i32::from(0x1fff_u16.to_be()));
        self.asm.jump_if(Reg::R2, Condition::NotEqual, 0, later);
        self.upper(Version::V4);
        self.asm.put(later);
        self.later_fragment(Version::V4);
    }

    /// RFC 8200 section 3.
    fn ipv6(&mut self) {
        let (pass, matched) = (self.pass, self.matched);
        self.need(40);
        self.asm.load(Size::Byte, Reg::R2, CURSOR, 0);
        self.asm.alu(Alu::And, Reg::R2, 0xf0);
        self.asm.jump_if(Reg::R2, Condition::NotEqual, 0x60, pass);
        self.asm.load(Size::Byte, KIND, CURSOR, 6);
        if self.filter.has_addresses() {
            let ours = self.asm.label();
            self.v6_among(self.filter.v6(), 24, ours);
            // To a group of addresses: a neighbour may ask for ours by it.
            self.asm.alu(Alu::Add, CURSOR, 40);
            self.extensions(pass);
            self.neighbour_discovery();
            self.asm.jump(pass);
            self.asm.put(ours);
        }
        if self.filter.named().is_none() {
            if self.kernel_answers() {
                self.asm.alu(Alu::Add, CURSOR, 40);
                self.extensions(matched);
                self.solicitation_or_advertisement(matched);
                self.asm.jump(pass);
            } else {
                self.asm.jump(matched);
            }
            return;
        }
        self.asm.alu(Alu::Add, CURSOR, 40);
        let later = self.asm.label();
        self.extensions(later);
        self.upper(Version::V6);
        self.asm.put(later);
        self.later_fragment(Version::V6);
    }

    /// Moves the cursor over extension headers to what is no such. Jumps to `later` if there is one of a later fragment, with
    /// what it says of what it is a fragment of.
    fn extensions(&mut self, later: Label) {
        let pass = self.pass;
        let upper = self.asm.label();
        for _ in 0..EXTENSIONS_MAX {
            let (measured, fragment, next) = (self.asm.label(), self.asm.label(), self.asm.label());
            for kind in MEASURED {
                self.asm
                    .jump_if(KIND, Condition::Equal, u16::from(kind), measured);
            }
            self.asm
                .jump_if(KIND, Condition::Equal, u16::from(FRAGMENT), fragment);
            self.asm.jump(upper);

            self.asm.put(fragment);
            self.need(8);
            self.asm.load(Size::Byte, KIND, CURSOR, 0);
            self.asm.load(Size::Half, Reg::R2, CURSOR, 2);
            self.asm.alu(Alu::Add, CURSOR, 8);
            self.asm
                .alu(Alu::And, Reg::R2, i32::from(0xfff8_u16.to_be()));
            self.asm.jump_if(Reg::R2, Condition::NotEqual, 0, later);
            self.asm.jump(next);

            self.asm.put(measured);
            self.need(8);
            self.asm.load(Size::Byte, KIND, CURSOR, 0);
            self.asm.load(Size::Byte, Reg::R2, CURSOR, 1);
            // In units of eight octets, the first not counted.
            self.asm.alu(Alu::ShiftLeft, Reg::R2, 3);
            self.asm.alu(Alu::Add, Reg::R2, 8);
            self.asm.alu(Alu::Add, CURSOR, Reg::R2);
            self.asm.jump_if(CURSOR, Condition::Above, END, pass);
            self.asm.put(next);
        }
        for kind in MEASURED.into_iter().chain([FRAGMENT]) {
            self.asm
                .jump_if(KIND, Condition::Equal, u16::from(kind), pass);
        }
        self.asm.put(upper);
    }

    /// Whether the kernel has all addresses of version 6, and so neighbours ask and answer it. If it has but some, what is sent to one of
    /// them is the group's, neighbours' answers too.
    fn kernel_answers(&self) -> bool {
        let mut addresses = self.filter.v6().peekable();
        addresses.peek().is_some() && addresses.all(|address| self.filter.is_shared(address))
    }

    /// What is named, at the header above IP; it does not come back.
    fn upper(&mut self, version: Version) {
        let (pass, matched) = (self.pass, self.matched);
        if version == Version::V6 && self.filter.has_addresses() {
            // Sent to an address of ours: answers to what it asked have another as their target.
            let other = self.asm.label();
            self.solicitation_or_advertisement(other);
            let whose = if self.kernel_answers() { pass } else { matched };
            self.asm.jump(whose);
            self.asm.put(other);
        }
        for (protocol, ports) in self.named(version) {
            let other = self.asm.label();
            let number = u16::from(protocol.number());
            self.asm.jump_if(KIND, Condition::NotEqual, number, other);
            if protocol == Protocol::Icmp6 && !self.filter.has_addresses() {
                // The kernel's addresses are among them: it needs its neighbours.
                self.need(1);
                self.asm.load(Size::Byte, Reg::R2, CURSOR, 0);
                let (first, last) = (u16::from(ND_FIRST), u16::from(ND_LAST));
                self.asm.jump_if(Reg::R2, Condition::Below, first, matched);
                self.asm.jump_if(Reg::R2, Condition::Above, last, matched);
                self.asm.jump(pass);
            } else if ports.is_empty() {
                self.asm.jump(matched);
            } else {
                self.ports(&ports);
            }
            self.asm.put(other);
        }
        self.asm.jump(pass);
    }

    /// The port that a packet goes to; it does not come back.
    fn ports(&mut self, ports: &[PortRange]) {
        let (pass, matched) = (self.pass, self.matched);
        self.need(4);
        self.asm.load(Size::Half, Reg::R2, CURSOR, 2);
        self.asm.swap_from_network(Reg::R2);
        for range in ports {
            // They are in order: what lies before this one lies in none.
            self.asm
                .jump_if(Reg::R2, Condition::Below, range.first, pass);
            let next = self.asm.label();
            self.asm
                .jump_if(Reg::R2, Condition::Above, range.last, next);
            self.asm.jump(matched);
            self.asm.put(next);
        }
        self.asm.jump(pass);
    }

    /// What has no ports, being a later fragment; it does not come back.
    fn later_fragment(&mut self, version: Version) {
        let (pass, matched) = (self.pass, self.matched);
        let addressed = self.filter.has_addresses();
        for (protocol, ports) in self.named(version) {
            if addressed || ports.is_empty() {
                let number = u16::from(protocol.number());
                self.asm.jump_if(KIND, Condition::Equal, number, matched);
            }
        }
        if addressed && version == Version::V6 {
            // The first one has what follows these.
            for kind in MEASURED {
                self.asm
                    .jump_if(KIND, Condition::Equal, u16::from(kind), matched);
            }
        }
        self.asm.jump(pass);
    }

    /// Matches neighbour discovery about one of the addresses, else goes on.
    fn neighbour_discovery(&mut self) {
        let other = self.asm.label();
        self.solicitation_or_advertisement(other);
        let matched = self.matched;
        let filter = self.filter;
        let asked = filter.v6().filter(|address| !filter.is_shared(*address));
        self.v6_among(asked, ND_TARGET_AT, matched);
        self.asm.put(other);
    }

    /// Goes on at a whole solicitation or advertisement, else to `other`.
    fn solicitation_or_advertisement(&mut self, other: Label) {
        let icmp6 = u16::from(Protocol::Icmp6.number());
        self.asm.jump_if(KIND, Condition::NotEqual, icmp6, other);
        self.need_or(ND_LEN, other);
        self.asm.load(Size::Byte, Reg::R2, CURSOR, 0);
        let (first, last) = (u16::from(ND_SOLICITATION), u16::from(ND_ADVERTISEMENT));
        self.asm.jump_if(Reg::R2, Condition::Below, first, other);
        self.asm.jump_if(Reg::R2, Condition::Above, last, other);
    }

    /// Jumps to `found` if one of the addresses of version 4 stands at an offset that [`need`](Self::need) has covered.
    fn v4_among(&mut self, addresses: impl Iterator<Item = Ipv4Addr>, at: i16, found: Label) {
        self.asm.load(Size::Word, Reg::R2, CURSOR, at);
        for address in addresses {
            let word = i32::from_ne_bytes(address.octets());
            self.asm
                .jump_if_word(Reg::R2, Condition::Equal, word, found);
        }
    }

    /// Jumps to `found` if one of the addresses of version 6 stands at an offset that [`need`](Self::need) has covered.
    fn v6_among(&mut self, addresses: impl Iterator<Item = Ipv6Addr>, at: i16, found: Label) {
        const WORDS: [(Reg, i16); 4] = [(Reg::R2, 0), (Reg::R3, 4), (Reg::R4, 8), (Reg::R5, 12)];
        for (register, offset) in WORDS {
            self.asm.load(Size::Word, register, CURSOR, at + offset);
        }
        for address in addresses {
            let other = self.asm.label();
            for ((register, _), word) in WORDS.into_iter().zip(words_of(address)) {
                self.asm
                    .jump_if_word(register, Condition::NotEqual, word, other);
            }
            self.asm.jump(found);
            self.asm.put(other);
        }
    }

    /// Gives the frame to the kernel if fewer octets than these are left.
    fn need(&mut self, octets: i32) {
        let pass = self.pass;
        self.need_or(octets, pass);
    }

    fn need_or(&mut self, octets: i32, short: Label) {
        self.asm.set(Reg::R2, CURSOR);
        self.asm.alu(Alu::Add, Reg::R2, octets);
        self.asm.jump_if(Reg::R2, Condition::Above, END, short);
    }

    /// What is named of what that version carries.
    fn named(&self, version: Version) -> Vec<(Protocol, Ports)> {
        let named = self.filter.named().into_iter().flatten();
        named
            .filter(|(protocol, _)| protocol.is_in(version))
            .map(|(protocol, ports)| (*protocol, ports.clone()))
            .collect()
    }

    /// Puts what the device knows before the frame, if there is room for it.
    fn describe(&mut self, questions: Questions) {
        // Answers come to the stack: the kernel writes nowhere else for them.
        const HASH: i16 = -8;
        const HASH_KIND: i16 = -4;
        const TAG: i16 = -16;
        const TAG_TYPE: i16 = -12;
        let room = i32::try_from(metadata::LEN).expect("metadata is short");
        let done = self.asm.label();
        self.asm.set(Reg::R1, CONTEXT);
        self.asm.set(Reg::R2, -room);
        self.asm.call(XDP_ADJUST_META);
        self.asm.jump_if(Reg::R0, Condition::NotEqual, 0, done);
        self.ask(questions.hash, Size::Word, HASH, HASH_KIND);
        // The type comes first.
        self.ask(questions.tag, Size::Half, TAG_TYPE, TAG);
        self.asm.load(Size::Word, Reg::R2, CONTEXT, MD_DATA_META);
        self.asm.load(Size::Word, Reg::R3, CONTEXT, MD_DATA);
        self.asm.set(Reg::R4, Reg::R2);
        self.asm.alu(Alu::Add, Reg::R4, room);
        self.asm.jump_if(Reg::R4, Condition::Above, Reg::R3, done);
        let at = |offset| i16::try_from(offset).expect("metadata is short");
        let magic = at(offset_of!(Layout, magic));
        self.asm.store(Size::Word, Reg::R2, magic, MAGIC_WRITTEN);
        for (size, answer, field) in [
            (Size::Word, HASH, offset_of!(Layout, hash)),
            (Size::Word, HASH_KIND, offset_of!(Layout, hash_kind)),
            (Size::Half, TAG, offset_of!(Layout, tag)),
            (Size::Half, TAG_TYPE, offset_of!(Layout, tag_type)),
        ] {
            self.asm.load(size, Reg::R4, Reg::R10, answer);
            self.asm.store(size, Reg::R2, at(field), Reg::R4);
        }
        self.asm.put(done);
    }

    /// Has two answers of one size stand on the stack, or zeros if there are none.
    fn ask(&mut self, function: Option<i32>, size: Size, first: i16, second: i16) {
        let answers = [first, second];
        // Also for a function: it is not handed what was never written.
        for at in answers {
            self.asm.store(size, Reg::R10, at, 0);
        }
        let Some(function) = function else {
            return;
        };
        let known = self.asm.label();
        self.asm.set(Reg::R1, CONTEXT);
        for (argument, at) in [(Reg::R2, first), (Reg::R3, second)] {
            self.asm.set(argument, Reg::R10);
            self.asm.alu(Alu::Add, argument, i32::from(at));
        }
        self.asm.call_kernel(function);
        self.asm.jump_if_word(Reg::R0, Condition::Equal, 0, known);
        for at in answers {
            self.asm.store(size, Reg::R10, at, 0);
        }
        self.asm.put(known);
    }

    /// Sends the frame to the socket of its queue.
    fn redirect(&mut self, xsks: BorrowedFd<'_>) {
        self.asm.load_map(Reg::R1, xsks);
        self.asm
            .load(Size::Word, Reg::R2, CONTEXT, MD_RX_QUEUE_INDEX);
        // What becomes of a frame whose queue has no socket.
        self.asm.set(Reg::R3, XDP_PASS);
        self.asm.call(REDIRECT_MAP);
    }

    /// Both ways out.
    fn end(&mut self, on_match: OnMatch<'_>) {
        self.asm.put(self.matched);
        match on_match {
            OnMatch::Redirect(xsks) => self.redirect(xsks),
            OnMatch::Describe(xsks, questions) => {
                self.describe(questions);
                self.redirect(xsks);
            }
            #[cfg(test)]
            OnMatch::Return(verdict) => self.asm.set(Reg::R0, verdict),
        }
        self.asm.exit();
        self.asm.put(self.pass);
        if !self.filter.is_all() {
            self.asm.set(Reg::R0, XDP_PASS);
            self.asm.exit();
        }
    }
}

/// An address as four loads from a frame have it.
fn words_of(address: Ipv6Addr) -> [i32; 4] {
    let octets = address.octets();
    std::array::from_fn(|word| {
        i32::from_ne_bytes(std::array::from_fn(|octet| octets[word * 4 + octet]))
    })
}

#[cfg(test)]
mod tests;
