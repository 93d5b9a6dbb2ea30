//! What cannot be opened, and what is said of it.

use super::*;

#[test]
fn missing_interface_is_named_with_those_there_are() {
    lab::isolated!({
        let (a, _b) = cable("a", "b");
        let memory = memory(128);
        let probe = |text: &str| {
            let args = DevArgs::parse(text).unwrap();
            a.run(|| open(memory.0, &args, 1, 1, memory.1).map(drop))
                .unwrap()
                .unwrap_err()
                .to_string()
        };
        let error = probe("net_af_packet0,iface=ao");
        assert!(
            error.contains("\"ao\"")
                && error.contains("did you mean a0")
                && error.contains("interfaces here are a0"),
            "{error}"
        );
        assert!(probe("net_af_packet0").contains("iface="));
        assert!(probe("net_af_packet0,iface=0123456789abcdefgh").contains("no interface"));
    });
}

#[test]
fn interface_that_is_down_is_opened() {
    lab::isolated!({
        let a = Host::new("a").unwrap();
        let b = Host::new("b").unwrap();
        lab::veth((&a, "a0"), (&b, "b0"), 1).unwrap();
        let memory = memory(1024);
        let mut port = Opened::start(&a, memory, "net_af_packet0,iface=a0", 1, 1);
        assert!(!port.device.link().up);
        let (mut rx, lcore) = (port.rx(0), lcore(memory.0));
        a.up("a0").unwrap();
        b.up("b0").unwrap();
        let far = FrameSocket::open(&b, "b0").unwrap();
        far.send(&frame(1, 60)).unwrap();
        let until = Instant::now() + WAIT;
        // The kernel says so a moment later.
        while !port.device.link().up && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(port.device.link().up);
        let mut came = false;
        // Neighbour discovery speaks too.
        while !came && Instant::now() < until {
            came = rest(&mut rx, &lcore).contains(&frame(1, 60));
        }
        assert!(came);
    });
}

#[test]
fn missing_privilege_is_named() {
    lab::isolated!({
        let (a, _b) = cable("a", "b");
        let memory = memory(128);
        let args = DevArgs::parse("net_af_packet0,iface=a0").unwrap();
        let error = a.run(|| {
            // Of this thread alone, which ends here.
            let none = rustix::thread::CapabilitySet::empty();
            let sets = rustix::thread::CapabilitySets {
                effective: none,
                permitted: none,
                inheritable: none,
            };
            rustix::thread::set_capabilities(None, sets).unwrap();
            open(memory.0, &args, 1, 1, memory.1).map(drop)
        });
        let error = error.unwrap().unwrap_err();
        assert!(
            matches!(
                error,
                Error::Privilege {
                    capability: "CAP_NET_RAW",
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains("user namespace"), "{error}");
    });
}

#[test]
fn wrong_values_are_refused_with_what_would_be_right() {
    let parse = |text: &str| {
        Options::parse(&DevArgs::parse(text).unwrap(), &AfPacket, 64)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    for (key, reason) in [
        ("blocksz=5000", "multiple of the page size"),
        ("blocksz=100", "not a number from"),
        ("framesz=2047", "multiple of 16"),
        ("framesz=1000000", "not a number from"),
        ("framecnt=0", "not a number from"),
        ("framecnt=1000000", "more than 1 GiB"),
        ("qpairs=65", "from 1 to 64"),
        ("qdisc_bypass=2", "not 0 or 1"),
        ("fanout_mode=hsah", "hash, lb, cpu"),
    ] {
        let error = parse(&format!("net_af_packet0,iface=x,{key}")).unwrap_err();
        assert!(error.contains(reason), "{key}: {error}");
    }
    // As DPDK's own defaults would be written.
    parse("net_af_packet0,iface=x,qpairs=1,blocksz=4096,framesz=2048,framecnt=512,qdisc_bypass=0")
        .unwrap();
}
