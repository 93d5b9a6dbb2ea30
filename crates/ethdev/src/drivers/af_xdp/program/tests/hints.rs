//! What stands before a frame.

use super::*;

#[test]
fn metadata_stands_before_what_matches_and_nothing_else() {
    if !may_load() {
        return;
    }
    let xsks = bpf::create_xskmap(1).unwrap();
    // Nothing is asked, so that no interface is needed, and the answers are none.
    let on_match = OnMatch::Describe(xsks.as_fd(), Questions::default());
    for keys in FILTERS {
        let filter = filter(keys);
        let program = assemble(&filter, on_match);
        let program =
            bpf::load(&program, Load::default()).unwrap_or_else(|e| panic!("{keys}: {e}"));
        for frame in packets().iter().map(ethernet) {
            let (_, after) = bpf::test_run(program.as_fd(), &frame.octets, None).unwrap();
            let Some(before) = after.strip_suffix(&frame.octets[..]) else {
                panic!("{keys}: {}: the frame has changed", frame.name);
            };
            let read = before.first_chunk().and_then(Metadata::read);
            let expected = reference(&filter, &frame.octets).map(|()| Metadata {
                hash: None,
                tag: None,
            });
            assert_eq!(read, expected, "{keys}: {}", frame.name);
            assert_eq!(before.len(), if read.is_some() { metadata::LEN } else { 0 });
        }
    }
}

#[test]
fn program_that_asks_the_device_is_for_one_interface_and_its_driver() {
    if !may_load() {
        return;
    }
    let Ok(Some(questions)) = Questions::of_this_kernel() else {
        let why = "skipped: this kernel has no functions that ask about frames";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), why.as_bytes());
        return;
    };
    lab::isolated!({
        let (a, b) = (lab::Host::new("a").unwrap(), lab::Host::new("b").unwrap());
        lab::veth((&a, "a0"), (&b, "b0"), 1).unwrap();
        lab::veth((&a, "a1"), (&b, "b1"), 1).unwrap();
        let xsks = bpf::create_xskmap(1).unwrap();
        a.run(|| {
            let (ifindex, other) = (index_of("a0"), index_of("a1"));
            for keys in FILTERS {
                let on_match = OnMatch::Describe(xsks.as_fd(), questions);
                let program = assemble(&filter(keys), on_match);
                assert!(bpf::load(&program, Load::default()).is_err());
                let how = Load {
                    device: Some(ifindex),
                    frags: true,
                };
                let program = bpf::load(&program, how).unwrap_or_else(|e| panic!("{keys}: {e}"));
                for (ifindex, mode) in [(other, Mode::Native), (ifindex, Mode::Generic)] {
                    assert!(bpf::attach(program.as_fd(), ifindex, mode).is_err());
                }
                drop(bpf::attach(program.as_fd(), ifindex, Mode::Native).unwrap());
            }
            // What is loaded for an interface can be attached to it, whether it asks or not.
            for (mode, describes) in [(Mode::Native, true), (Mode::Generic, false)] {
                let loaded =
                    load(&Filter::ALL, xsks.as_fd(), (ifindex, mode), (true, true)).unwrap();
                assert_eq!(loaded.describes, describes);
                drop(bpf::attach(loaded.program.as_fd(), ifindex, mode).unwrap());
            }
        })
        .unwrap();
    });
}

/// A program that writes what metadata says over the addresses of Ethernet, and lets the kernel have the frame.
fn telling(questions: Questions) -> Vec<Insn> {
    let filter = Filter::ALL;
    let mut asm = Assembler::new();
    let (matched, pass) = (asm.label(), asm.label());
    asm.set(CONTEXT, Reg::R1);
    let mut program = Program {
        asm,
        filter: &filter,
        matched,
        pass,
    };
    program.describe(questions);
    let mut asm = program.asm;
    let out = asm.label();
    asm.load(Size::Word, Reg::R2, CONTEXT, MD_DATA_META);
    asm.load(Size::Word, CURSOR, CONTEXT, MD_DATA);
    asm.load(Size::Word, END, CONTEXT, MD_DATA_END);
    for (start, len, end) in [(Reg::R2, 16, CURSOR), (CURSOR, 14, END)] {
        asm.set(Reg::R3, start);
        asm.alu(Alu::Add, Reg::R3, len);
        asm.jump_if(Reg::R3, Condition::Above, end, out);
    }
    for at in [0, 4, 8] {
        asm.load(Size::Word, Reg::R3, Reg::R2, 4 + at);
        asm.store(Size::Word, CURSOR, at, Reg::R3);
    }
    asm.put(out);
    asm.set(Reg::R0, XDP_PASS);
    asm.exit();
    asm.finish()
}

#[test]
fn metadata_says_what_the_device_knows() {
    let Ok(Some(questions)) = Questions::of_this_kernel() else {
        return;
    };
    if !may_load() {
        return;
    }
    lab::isolated!({
        let (a, b) = (lab::Host::new("a").unwrap(), lab::Host::new("b").unwrap());
        lab::veth((&a, "a0"), (&b, "b0"), 1).unwrap();
        a.up("a0").unwrap();
        b.up("b0").unwrap();
        let _link = a
            .run(|| {
                let how = Load {
                    device: Some(index_of("a0")),
                    frags: true,
                };
                let program = bpf::load(&telling(questions), how).unwrap();
                bpf::attach(program.as_fd(), index_of("a0"), Mode::Native).unwrap()
            })
            .unwrap();
        let heard = lab::FrameSocket::open(&a, "a0").unwrap();
        // What metadata says of the frame that these octets are in.
        let told = |mark: &[u8]| loop {
            let frame = heard.receive(std::time::Duration::from_secs(5)).unwrap();
            let frame = frame.expect("the frame comes");
            if frame.windows(mark.len()).any(|octets| octets == mark) {
                let magic = i32::to_ne_bytes(MAGIC_WRITTEN);
                let before = [&magic[..], &frame[..12]].concat();
                return Metadata::read(before.first_chunk().unwrap()).unwrap();
            }
        };
        let frame = ethernet(&ipv4(OURS, 0, WHOLE, &udp(53))).octets;
        let mut first = frame.clone();
        first.extend(b"first");
        lab::FrameSocket::open(&b, "b0")
            .unwrap()
            .send(&first)
            .unwrap();
        let of_first = told(b"first");
        assert_eq!(of_first.tag, None);
        // The kernel's own hash of the flow, which is of its ports too.
        let (hash, kind) = of_first.hash.unwrap();
        assert!(hash != 0 && kind & HASH_OF_PORTS != 0, "{of_first:?}");
        if let Err(error) = b.vlan("b0", 5, "b5") {
            let why = format!("skipped: metadata of a tagged frame: {error}\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), why.as_bytes());
            return;
        }
        b.up("b5").unwrap();
        let mut second = frame;
        second.extend(b"second");
        lab::FrameSocket::open(&b, "b5")
            .unwrap()
            .send(&second)
            .unwrap();
        // The tag is beside the frame, where no program finds it but by asking.
        assert_eq!(told(b"second").tag, Some((0x8100, 5)));
    });
}
