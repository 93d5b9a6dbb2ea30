//! Whole command lines.

use super::*;
use proptest::prelude::*;

fn parse(line: &str) -> Result<(EalArgs, Vec<String>), ArgsError> {
    EalArgs::parse(line.split_whitespace().map(str::to_owned))
}

fn args(line: &str) -> EalArgs {
    parse(line).unwrap().0
}

fn message(line: &str) -> String {
    parse(line).unwrap_err().to_string()
}

#[test]
fn the_servers_command_of_the_lesson_parses_as_it_stands() {
    let line = "mp_server -l 1-2 -n 4 --vdev=net_af_packet0,iface=veth0 \
                --vdev=net_af_packet1,iface=veth1 -- -p 0x3 -n 2";
    let (args, rest) = parse(line).unwrap();
    assert_eq!(args.program, "mp_server");
    assert_eq!(
        args.lcores.ids().collect::<Vec<_>>(),
        [LcoreId(1), LcoreId(2)]
    );
    assert_eq!(args.channels, Some(4));
    assert_eq!(
        args.vdevs,
        ["net_af_packet0,iface=veth0", "net_af_packet1,iface=veth1"]
    );
    assert_eq!(args.proc_type, ProcType::Primary);
    assert_eq!(args.prefix, "rte");
    assert_eq!(args.memory_bytes(), 64 << 20);
    assert_eq!(rest, ["-p", "0x3", "-n", "2"]);
    assert_eq!(
        args.notices,
        ["`-n 4` has no effect here: memory is laid out by pages"]
    );
}

#[test]
fn the_clients_command_of_the_lesson_parses_as_it_stands() {
    let (args, rest) = parse("mp_client -l 3 --proc-type=auto -- -n 0").unwrap();
    assert_eq!(args.proc_type, ProcType::Auto);
    let placed = args.lcores.place(&[0, 1]);
    assert_eq!(
        placed.describe(2),
        "lcore 3 runs on cpu 1 (2 cpus available)"
    );
    assert_eq!(rest, ["-n", "0"]);
}

#[test]
fn every_option_arrives_where_it_belongs() {
    let args = args(
        "p -c 0x6 --main-lcore 2 -m 1G --huge-dir /mnt/huge --file-prefix=lab \
         --proc-type secondary -a 0000:00:05.0 -a 0000:00:06.0,x=1 --log-level=debug \
         --log-level eal:error --base-virtaddr 0x100000000 --runtime-dir /run/x --group net \
         --wait 5 -v",
    );
    let expected = EalArgs {
        lcores: LcoreMap::parse_list("1-2").unwrap(),
        main_lcore: Some(LcoreId(2)),
        memory_mb: Some(1024),
        huge: HugeChoice::Required,
        huge_dir: Some("/mnt/huge".into()),
        prefix: "lab".into(),
        proc_type: ProcType::Secondary,
        allow: vec!["0000:00:05.0".into(), "0000:00:06.0,x=1".into()],
        log_level: Some(LogLevel::Debug),
        component_levels: vec![("eal".into(), LogLevel::Error)],
        base_virtaddr: Some(1 << 32),
        runtime_dir: Some("/run/x".into()),
        group: Some("net".into()),
        wait_seconds: 5,
        version: true,
        notices: args.notices.clone(),
        ..EalArgs::new("p")
    };
    assert_eq!(args, expected);
    assert_eq!(args.notices.len(), 1);
}

#[test]
fn options_without_meaning_leave_a_notice_each_and_nothing_else() {
    let parsed = args(
        "p -r 2 -d libx.so --iova-mode=va --legacy-mem --no-pci --huge-unlink \
         --huge-unlink=never --single-file-segments --socket-limit 1,1 --no-telemetry --no-hpet \
         --vfio-intr=msi --syslog --trace=eal -s 0x3",
    );
    assert_eq!(parsed.notices.len(), 15, "{:#?}", parsed.notices);
    assert_eq!(
        parsed.notices[2],
        "`--iova-mode=va` has no effect here: devices are given no memory addresses by us"
    );
    assert_eq!(
        EalArgs {
            notices: Vec::new(),
            ..parsed
        },
        EalArgs::new("p")
    );
    assert!(args("p --no-shconf").in_memory);
}

#[test]
fn a_wrong_role_names_the_three() {
    assert_eq!(
        message("p --proc-type=master"),
        "`--proc-type` cannot be `master`: it must be `primary`, `secondary` or `auto`"
    );
}

#[test]
fn options_that_exclude_each_other_are_named_together() {
    assert_eq!(
        message("p -l 1 -c 0x2"),
        "`-l 1` and `-c 0x2` exclude each other; give the cores once"
    );
    assert!(message("p -m 64 --socket-mem=64").contains("exclude each other"));
    assert!(message("p --no-huge --huge-dir=/mnt").contains("exclude each other"));
    assert!(message("p -a 0:1 -b 0:2").contains("exclude each other"));
    assert!(message("p --in-memory --proc-type=secondary").contains("has no secondary"));
}

#[test]
fn a_second_value_for_one_option_is_an_error() {
    assert_eq!(
        message("p -l 1 --lcores 2"),
        "`--lcores` is given twice, as `1` and as `2`; give it once"
    );
    assert!(message("p --file-prefix=a --file-prefix=a").contains("given twice"));
    assert!(message("p --log-level=7 --log-level=8").contains("given twice"));
    assert!(message("p -n 2 -n 4").contains("given twice"));
    assert!(parse("p --no-huge --no-huge --log-level=a:7 --log-level=a:8").is_ok());
}

#[test]
fn one_device_cannot_be_made_twice() {
    assert_eq!(
        message("p --vdev=net_null0 --vdev net_null0,size=64"),
        "`--vdev` names the device `net_null0` twice; \
         give the second another number, for example `net_null1`"
    );
    assert!(message("p --vdev=,iface=x").contains("must start with the name of a device"));
    assert!(message("p --vdev=iface=x").contains("must start with the name of a device"));
    assert!(message("p --vdev=").contains("must start with the name of a device"));
}

#[test]
fn wrong_values_name_the_option_as_it_was_typed() {
    assert_eq!(
        message("p -l 1-x"),
        "`-l` cannot be `1-x`: a core number should stand at `x`; write for example `1-2,4`"
    );
    assert!(message("p -l=1").contains("`-l` cannot be `=1`"));
    assert!(message("p -c 12z").contains("hexadecimal"));
    assert!(message("p -m 0").contains("from 1 to"));
    assert!(message("p -n four").contains("from 1 to 32"));
    assert!(message("p --wait 1.5").contains("number of seconds"));
    assert!(message("p --wait 86401").contains("number of seconds"));
    assert!(message("p --file-prefix=a/b").contains("letters"));
    assert!(message("p -l 1-2 --main-lcore 3").contains("not among the lcores `1,2`"));
    assert!(message("p --huge-dir=").contains("must name a hugetlbfs directory"));
    assert!(message("p --runtime-dir=").contains("must name a directory"));
    assert!(message("p --group=").contains("must name a Unix group"));
}

#[test]
fn application_arguments_before_the_dashes_are_refused() {
    assert_eq!(
        message("p -p 0x3"),
        "unknown argument `-p`; arguments of the application stand behind `--`"
    );
    assert!(message("p veth0 -- -p 0x3").contains("belongs to no option"));
}

#[test]
fn no_argument_at_all_is_fine() {
    assert_eq!(EalArgs::parse([]).unwrap(), (EalArgs::new(""), Vec::new()));
    assert_eq!(args("p"), EalArgs::new("p"));
    assert!(args("p -h").help);
}

#[test]
fn help_names_every_option_that_has_an_effect() {
    for spec in options::OPTIONS {
        let same = ["numa-mem", "no-shconf", "memory-channels", "base-virtaddr"];
        if !matches!(spec.meaning, Meaning::Ignored(_)) && !same.contains(&spec.long) {
            assert!(
                EalArgs::help().contains(&format!("--{}", spec.long)),
                "--{}",
                spec.long
            );
        }
    }
}

prop_compose! {
    /// Arguments as a user could have given them.
    fn any_args()(
        cores in prop::collection::vec(0..LCORES_MAX, 0..4),
        channels in prop::option::of(1_u32..=32),
        memory in (prop::option::of(1..=MEMORY_MB_MAX), prop::collection::vec(1_u64..4096, 0..3)),
        huge in 0..3,
        prefix in "[a-z][a-zA-Z0-9_.-]{0,46}",
        role in prop::sample::select(vec![
            ProcType::Primary, ProcType::Secondary, ProcType::Auto,
        ]),
        vdevs in prop::collection::btree_map("net_[a-z]{1,8}[0-9]", "(,[a-z]+=[^\0]{0,8})*", 0..3),
        devices in (any::<bool>(), prop::collection::btree_set("[0-9a-f:.]{1,12}", 0..3)),
        levels in (
            prop::option::of(prop::sample::select(LogLevel::ALL.to_vec())),
            prop::collection::vec(
                ("[a-z.:,]{1,8}", prop::sample::select(LogLevel::ALL.to_vec())), 0..3,
            ),
        ),
        places in (
            prop::option::of(any::<u64>()),
            prop::option::of("/[ -~]{0,20}"),
            prop::option::of("[a-z]{1,8}"),
        ),
        wait_seconds in 0..=WAIT_SECONDS_MAX,
        flags in any::<[bool; 3]>(),
    ) -> EalArgs {
        let list: Vec<String> = cores.iter().map(u32::to_string).collect();
        let lcores = LcoreMap::parse_list(&list.join(",")).unwrap_or_default();
        let (allowed, names) = devices;
        let names: Vec<String> = names.into_iter().collect();
        let mut args = EalArgs {
            main_lcore: lcores.first(),
            lcores,
            channels,
            memory_mb: memory.0,
            socket_mem_mb: if memory.0.is_some() { Vec::new() } else { memory.1 },
            prefix,
            proc_type: role,
            vdevs: vdevs.into_iter().map(|(name, rest)| name + &rest).collect(),
            in_memory: flags[0] && role != ProcType::Secondary,
            log_level: levels.0,
            component_levels: levels.1,
            base_virtaddr: places.0,
            runtime_dir: places.1.map(PathBuf::from),
            group: places.2,
            wait_seconds,
            help: flags[1],
            version: flags[2],
            ..EalArgs::new("prog")
        };
        *(if allowed { &mut args.allow } else { &mut args.block }) = names;
        match huge {
            0 => args.huge = HugeChoice::Never,
            1 => {
                args.huge = HugeChoice::Required;
                args.huge_dir = Some("/dev/hugepages".into());
            }
            _ => {}
        }
        args
    }
}

proptest! {
    #[test]
    fn arguments_survive_being_written_and_read(args in any_args(), rest in prop::collection::vec(".*", 0..3)) {
        let mut line = args.to_args();
        line.push("--".to_owned());
        line.extend(rest.iter().cloned());
        let (mut parsed, parsed_rest) = EalArgs::parse(line).unwrap();
        parsed.notices.clear();
        prop_assert_eq!(parsed, args);
        prop_assert_eq!(parsed_rest, rest);
    }

    #[test]
    fn no_command_line_makes_the_parser_panic(line in prop::collection::vec(".{0,12}", 0..6)) {
        let _ = EalArgs::parse(line);
    }

    #[test]
    fn no_command_line_of_real_options_makes_the_parser_panic(
        line in prop::collection::vec(
            (prop::sample::select(
                options::OPTIONS
                    .iter()
                    .flat_map(|spec| [
                        format!("--{}", spec.long),
                        spec.short.map_or(String::new(), |short| format!("-{short}")),
                    ])
                    .collect::<Vec<_>>(),
            ), "=?[-0-9,@()xMG:.a-cé]{0,10}", any::<bool>()),
            0..6,
        ),
    ) {
        let mut words = vec!["p".to_owned()];
        for (option, value, glued) in line {
            if glued {
                words.push(option + &value);
            } else {
                words.extend([option, value]);
            }
        }
        if let Err(error) = EalArgs::parse(words) {
            prop_assert!(error.to_string().contains('`'));
        }
    }
}
