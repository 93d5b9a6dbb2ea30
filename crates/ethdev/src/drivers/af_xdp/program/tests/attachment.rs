//! Programs on interfaces.

use super::*;

#[test]
fn frame_whose_queue_has_no_socket_stays_with_the_kernel() {
    if !may_load() {
        return;
    }
    lab::isolated!({
        let (a, b) = (lab::Host::new("a").unwrap(), lab::Host::new("b").unwrap());
        lab::veth((&a, "a0"), (&b, "b0"), 2).unwrap();
        let xsks = bpf::create_xskmap(1).unwrap();
        let program = assemble(&Filter::ALL, OnMatch::Redirect(xsks.as_fd()));
        let program = bpf::load(&program, Load::default()).unwrap();
        a.run(|| {
            let ifindex = index_of("a0");
            // The second queue is one that the map has no room for.
            for queue in 0..2 {
                let came_by = Some(CameBy { ifindex, queue });
                let (verdict, _) = bpf::test_run(program.as_fd(), &[0; 60], came_by).unwrap();
                assert_eq!(i32::try_from(verdict).unwrap(), XDP_PASS);
            }
            let nowhere = Some(CameBy { ifindex, queue: 2 });
            assert!(bpf::test_run(program.as_fd(), &[0; 60], nowhere).is_err());
        })
        .unwrap();
    });
}

#[test]
fn attached_program_is_seen_and_goes_with_its_link() {
    if !may_load() {
        return;
    }
    lab::isolated!({
        let (a, b) = (lab::Host::new("a").unwrap(), lab::Host::new("b").unwrap());
        lab::veth((&a, "a0"), (&b, "b0"), 2).unwrap();
        let program = assemble(&filter("match=tcp:80"), OnMatch::Return(XDP_PASS));
        let program = bpf::load(&program, Load::default()).unwrap();
        let id = bpf::program_info(program.as_fd()).unwrap().id;
        a.run(|| {
            let socket = netdev::socket().unwrap();
            let attached = || netdev::look(socket.as_fd(), "a0").unwrap().unwrap().xdp;
            let ifindex = index_of("a0");
            for (mode, seen) in [
                (Mode::Native, XdpMode::Native),
                (Mode::Generic, XdpMode::Generic),
            ] {
                assert_eq!(attached(), None);
                let link = bpf::attach(program.as_fd(), ifindex, mode).unwrap();
                let expected = Xdp {
                    mode: seen,
                    program: id,
                };
                assert_eq!(attached(), Some(expected));
                let info = bpf::link_info(link.as_fd()).unwrap().unwrap();
                assert_eq!((info.program, info.ifindex), (id, ifindex));
                // Nobody else's while it is ours.
                let again = bpf::attach(program.as_fd(), ifindex, mode).unwrap_err();
                assert_eq!(again.raw_os_error(), Some(libc::EBUSY));
                let other = link.try_clone().unwrap();
                drop(link);
                assert_eq!(attached(), Some(expected));
                drop(other);
            }
            assert_eq!(attached(), None);
            let link = bpf::attach(program.as_fd(), ifindex, Mode::Native).unwrap();
            bpf::detach(link.as_fd()).unwrap();
            assert_eq!(attached(), None);
            assert_eq!(bpf::link_info(link.as_fd()).unwrap().unwrap().ifindex, 0);
        })
        .unwrap();
    });
}
