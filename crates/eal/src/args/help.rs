//! The text of `--help`.

/// Every option that has a meaning here, and the rules of the command line.
pub(super) const HELP: &str = "\
EAL arguments (those of DPDK); application arguments stand behind `--`

Cores
  -l, --lcores CORES       lcores to run on: `1-2`, `0,3`, `0@(0,1),(2-3)@2`
  -c, --coremask MASK      the same as a hexadecimal mask: `0x6`
      --main-lcore CORE    the lcore of the main thread (default: the lowest)
                           A core that does not exist is taken modulo the cpus
                           this process may use.

Group
      --proc-type TYPE     primary (default), secondary, or auto: primary if
                           there is none yet
      --file-prefix NAME   name of the group (default: rte)
      --wait SECONDS       how long a secondary waits for its group (default: 0)
      --runtime-dir DIR    where groups are found (default: /run/forebay, else
                           $XDG_RUNTIME_DIR/forebay, else /tmp/forebay-UID)
      --group NAME         Unix group whose members may join as secondaries
      --in-memory          share nothing and leave no file: a group of one

Memory
  -m, --memory-size SIZE   size of the region: megabytes, or 64M, 1G (default: 64M);
                           on the NUMA node of the main lcore if there is room
      --socket-mem LIST    the same by NUMA node, and nowhere else: 64,32
      --huge-dir DIR       take hugepages from this hugetlbfs, or fail
      --no-huge            take plain pages

Devices
      --vdev DEVICE        a port: net_af_packet0,iface=veth0 (repeatable)
  -a, --allow DEVICE       a PCI device: the interface behind it, by net_af_xdp
                           for it yet
  -b, --block DEVICE       without effect: only what --vdev names is used

Other
      --log-level LEVEL    emergency, alert, critical, error, warning, notice,
                           info, debug, or 1 to 8; COMPONENT:LEVEL for a part
  -h, --help               this text
  -v, --version            the version

Accepted without effect: -n, --base-virtaddr, and what else DPDK knows.
";
