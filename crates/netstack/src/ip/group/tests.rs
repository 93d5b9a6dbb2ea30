use super::*;

const ETH: InterfaceId = InterfaceId(0);
const OTHER: InterfaceId = InterfaceId(1);
const NOW: Duration = Duration::ZERO;

const fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn groups() -> Groups {
    Groups::new(GroupConfig::default(), 1)
}

/// A member that has said so as often as it has to.
fn settled(names: &[&str]) -> Groups {
    let mut all = groups();
    for name in names {
        all.join(at(0), ETH, ip(name), NOW).unwrap();
    }
    run(&mut all, at(60_000));
    assert_eq!(all.next_timeout(), None);
    all
}

fn run(all: &mut Groups, end: Instant) -> Vec<(Instant, Report)> {
    let mut reports = Vec::new();
    let mut now = Instant::ZERO;
    while let Some(due) = all.next_timeout().filter(|due| *due <= end) {
        now = now.max(due);
        while let Some(report) = all.poll(now) {
            reports.push((now, report));
        }
        assert!(
            all.next_timeout().is_none_or(|next| next > now),
            "poll leaves nothing that is due"
        );
    }
    reports
}

fn said(report: &Report) -> Vec<(Kind, String)> {
    let records = report.records().iter();
    records
        .map(|record| (record.kind, record.group.to_string()))
        .collect()
}

const fn query(protocol: Protocol) -> Query {
    Query {
        protocol,
        group: None,
        max_response: Duration::from_secs(10),
        robustness: 0,
        interval: Duration::ZERO,
    }
}

#[test]
fn all_hosts_are_always_members_and_no_router_hears_of_it() {
    let mut all = groups();
    for group in ["224.0.0.1", "ff02::1"] {
        assert!(all.member(ETH, &ip(group)));
        all.join(at(0), ETH, ip(group), NOW).unwrap();
        all.query(at(0), ETH, &query(Protocol::Igmp3));
        all.query(at(0), ETH, &query(Protocol::Mld2));
        all.leave(at(50_000), ETH, ip(group)).unwrap();
        assert!(all.member(ETH, &ip(group)));
    }
    all.join(at(0), ETH, ip("ff01::5"), NOW).unwrap();
    assert_eq!(run(&mut all, at(600_000)), []);
    assert!(!all.member(ETH, &ip("224.0.0.2")) && !all.member(ETH, &ip("ff02::2")));
}

#[test]
fn join_and_leave_are_reported_as_often_as_robustness_demands() {
    for (group, protocol, to) in [
        ("239.1.2.3", Protocol::Igmp3, "224.0.0.22"),
        ("ff05::1:3", Protocol::Mld2, "ff02::16"),
    ] {
        let mut all = groups();
        all.join(at(0), ETH, ip(group), NOW).unwrap();
        assert!(all.member(ETH, &ip(group)) && !all.member(OTHER, &ip(group)));
        let reports = run(&mut all, at(60_000));
        assert_eq!(reports.len(), 2);
        assert_eq!(reports[0].0, at(0));
        assert!(reports[1].0 <= at(1_000));
        for (_, report) in &reports {
            assert_eq!((report.interface, report.protocol), (ETH, protocol));
            assert_eq!(report.destination(), ip(to));
            assert_eq!(said(report), [(Kind::Join, group.into())]);
        }
        all.leave(at(60_000), ETH, ip(group)).unwrap();
        assert!(!all.member(ETH, &ip(group)));
        let reports = run(&mut all, at(70_000));
        assert_eq!(reports.len(), 2);
        assert!(
            reports
                .iter()
                .all(|(_, report)| said(report) == [(Kind::Leave, group.into())])
        );
        assert_eq!(all.members.len(), 0);
        assert_eq!(
            all.leave(at(60_000), ETH, ip(group)),
            Err(Error::NoGroup(ip(group)))
        );
    }
}

#[test]
fn first_report_may_wait_while_packets_are_ours_already() {
    let mut all = groups();
    all.join(at(0), ETH, ip("ff02::1:ff00:1"), Duration::from_millis(700))
        .unwrap();
    assert!(all.member(ETH, &ip("ff02::1:ff00:1")));
    assert_eq!(run(&mut all, at(60_000))[0].0, at(700));
}

#[test]
fn group_is_left_when_the_last_one_leaves() {
    let mut all = settled(&["239.1.2.3"]);
    all.join(at(60_000), ETH, ip("239.1.2.3"), NOW).unwrap();
    assert_eq!(all.iter().collect::<Vec<_>>(), [(ETH, ip("239.1.2.3"), 2)]);
    all.leave(at(60_000), ETH, ip("239.1.2.3")).unwrap();
    assert!(all.member(ETH, &ip("239.1.2.3")));
    assert_eq!(all.next_timeout(), None);
    all.leave(at(60_000), ETH, ip("239.1.2.3")).unwrap();
    assert!(!all.member(ETH, &ip("239.1.2.3")));
    // And joined again before the leave was said twice: the newer change stands.
    assert_eq!(
        said(&all.poll(at(60_000)).unwrap()),
        [(Kind::Leave, "239.1.2.3".into())]
    );
    all.join(at(60_001), ETH, ip("239.1.2.3"), NOW).unwrap();
    let reports = run(&mut all, at(90_000));
    assert_eq!(reports.len(), 2);
    assert!(
        reports
            .iter()
            .all(|(_, report)| said(report)[0].0 == Kind::Join)
    );
}

#[test]
fn general_query_is_answered_by_one_report_after_a_random_wait() {
    let mut waits = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let mut all = Groups::new(GroupConfig::default(), seed);
        for group in ["239.1.2.3", "239.1.2.4", "ff05::7"] {
            all.join(at(0), ETH, ip(group), NOW).unwrap();
        }
        all.join(at(0), OTHER, ip("239.1.2.3"), NOW).unwrap();
        run(&mut all, at(60_000));
        all.query(at(60_000), ETH, &query(Protocol::Igmp3));
        // One more query does not put the answer off.
        let due = all.next_timeout().unwrap();
        all.query(at(60_000), ETH, &query(Protocol::Igmp3));
        assert!(all.next_timeout().unwrap() <= due);
        let reports = run(&mut all, at(100_000));
        assert_eq!(reports.len(), 1);
        let (when, report) = reports[0];
        assert_eq!(
            said(&report),
            [
                (Kind::Member, "239.1.2.3".into()),
                (Kind::Member, "239.1.2.4".into())
            ]
        );
        assert!(when <= at(70_000));
        waits.insert(when);
    }
    assert!(waits.len() > 45);
}

#[test]
fn specific_query_is_answered_for_its_group() {
    let mut all = settled(&["ff05::7", "ff05::8"]);
    let ask = |group| Query {
        group: Some(ip(group)),
        max_response: Duration::from_secs(1),
        ..query(Protocol::Mld2)
    };
    all.query(at(60_000), ETH, &ask("ff05::9"));
    all.query(at(60_000), OTHER, &ask("ff05::8"));
    all.query(at(60_000), ETH, &ask("239.1.2.3"));
    assert_eq!(all.next_timeout(), None);
    all.query(at(60_000), ETH, &ask("ff05::8"));
    let reports = run(&mut all, at(90_000));
    assert_eq!(reports.len(), 1);
    assert!(reports[0].0 <= at(61_000));
    assert_eq!(said(&reports[0].1), [(Kind::Member, "ff05::8".into())]);
}

#[test]
fn many_groups_take_several_reports_that_fit() {
    let mut all = Groups::new(
        GroupConfig {
            groups_max: 70,
            ..GroupConfig::default()
        },
        1,
    );
    for n in 0..70_u8 {
        all.join(at(0), ETH, IpAddr::V4(Ipv4Addr::new(239, 0, 0, n)), NOW)
            .unwrap();
    }
    let counts: Vec<_> = std::iter::from_fn(|| all.poll(at(0)))
        .map(|r| r.records().len())
        .collect();
    assert_eq!(counts, [32, 32, 6]);
}

#[test]
fn older_router_is_spoken_to_in_its_version_until_it_was_silent_long_enough() {
    for (group, older, newer) in [
        ("239.1.2.3", Protocol::Igmp2, Protocol::Igmp3),
        ("239.1.2.3", Protocol::Igmp1, Protocol::Igmp3),
        ("ff05::7", Protocol::Mld1, Protocol::Mld2),
    ] {
        let mut all = settled(&[group]);
        let start = at(60_000);
        all.query(start, ETH, &query(older));
        let reports = run(&mut all, at(100_000));
        assert_eq!(reports.len(), 1);
        let (when, report) = reports[0];
        assert!(when <= start + Duration::from_secs(10));
        assert_eq!((report.protocol, report.destination()), (older, ip(group)));
        assert_eq!(said(&report), [(Kind::Member, group.into())]);
        // A newer query in between changes nothing, and its response time holds.
        all.query(at(150_000), ETH, &query(newer));
        let reports = run(&mut all, at(200_000));
        assert_eq!((reports.len(), reports[0].1.protocol), (1, older));
        // 2 * 125 s + 10 s after the last older query.
        let quiet = start + Duration::from_secs(260);
        assert_eq!(all.next_timeout(), Some(quiet));
        assert_eq!(all.poll(quiet), None);
        all.query(quiet, ETH, &query(newer));
        let reports = run(&mut all, at(400_000));
        assert_eq!((reports.len(), reports[0].1.protocol), (1, newer));
        assert_eq!(all.next_timeout(), None);
    }
}

#[test]
fn oldest_router_wins_over_an_older_one() {
    let mut all = settled(&["239.1.2.3"]);
    all.query(at(60_000), ETH, &query(Protocol::Igmp1));
    all.query(at(60_000), ETH, &query(Protocol::Igmp2));
    assert_eq!(run(&mut all, at(90_000))[0].1.protocol, Protocol::Igmp1);
    // RFC 1112 knows no leaving.
    all.leave(at(90_000), ETH, ip("239.1.2.3")).unwrap();
    assert_eq!(run(&mut all, at(100_000)), []);
    assert_eq!(all.members.len(), 0);
}

#[test]
fn report_of_another_host_stands_for_ours_in_older_versions_only() {
    let mut all = settled(&["239.1.2.3"]);
    let group = ip("239.1.2.3");
    all.query(at(60_000), ETH, &query(Protocol::Igmp3));
    all.heard_report(at(60_000), ETH, group);
    assert_eq!(run(&mut all, at(80_000)).len(), 1);
    all.query(at(80_000), ETH, &query(Protocol::Igmp2));
    all.heard_report(at(80_000), ETH, group);
    assert_eq!(run(&mut all, at(95_000)), []);
    // The other one reported last, so ours goes without a word.
    all.leave(at(95_000), ETH, group).unwrap();
    assert_eq!(run(&mut all, at(99_000)), []);
    // But who reported last says that it leaves, to all routers.
    all.join(at(100_000), ETH, group, NOW).unwrap();
    let reports = run(&mut all, at(120_000));
    assert_eq!(reports.len(), 2);
    assert_eq!(
        (reports[0].0, reports[0].1.protocol),
        (at(100_000), Protocol::Igmp2)
    );
    assert!(reports[1].0 <= at(110_000));
    all.leave(at(120_000), ETH, group).unwrap();
    let reports = run(&mut all, at(140_000));
    assert_eq!(reports.len(), 1);
    assert_eq!(
        (reports[0].1.destination(), said(&reports[0].1)[0].0),
        (ip("224.0.0.2"), Kind::Leave)
    );
}

#[test]
fn mldv1_done_goes_to_all_routers() {
    let mut all = settled(&["ff05::7"]);
    all.query(at(60_000), ETH, &query(Protocol::Mld1));
    run(&mut all, at(80_000));
    all.leave(at(80_000), ETH, ip("ff05::7")).unwrap();
    let report = all.poll(at(80_000)).unwrap();
    assert_eq!(
        (report.protocol, report.destination()),
        (Protocol::Mld1, ip("ff02::2"))
    );
}

#[test]
fn change_of_version_forgets_what_was_to_be_said() {
    let mut all = groups();
    all.join(at(0), ETH, ip("239.1.2.3"), Duration::from_secs(20))
        .unwrap();
    all.query(
        at(0),
        ETH,
        &Query {
            group: Some(ip("239.9.9.9")),
            ..query(Protocol::Igmp2)
        },
    );
    assert_eq!(run(&mut all, at(100_000)), []);
}

#[test]
fn hosts_take_robustness_and_interval_of_the_router() {
    let mut all = settled(&["239.1.2.3"]);
    let strong = Query {
        robustness: 4,
        interval: Duration::from_secs(20),
        ..query(Protocol::Igmp3)
    };
    all.query(at(60_000), ETH, &strong);
    run(&mut all, at(80_000));
    all.join(at(80_000), ETH, ip("239.1.2.4"), NOW).unwrap();
    assert_eq!(run(&mut all, at(90_000)).len(), 4);
    all.query(at(100_000), ETH, &query(Protocol::Igmp2));
    run(&mut all, at(115_000));
    assert_eq!(
        all.next_timeout(),
        Some(at(100_000) + Duration::from_secs(4 * 20 + 10))
    );
}

#[test]
fn announce_reports_all_groups_of_the_family_once_more() {
    let mut all = settled(&["239.1.2.3", "ff05::7", "ff02::1"]);
    all.announce(at(60_000), ETH, true);
    let reports = run(&mut all, at(90_000));
    assert_eq!(reports.len(), 2);
    assert!(
        reports
            .iter()
            .all(|(_, report)| said(report) == [(Kind::Join, "ff05::7".into())])
    );
}

#[test]
fn full_table_refuses_members_but_not_for_those_who_have_left() {
    let mut all = Groups::new(
        GroupConfig {
            groups_max: 2,
            interfaces_max: 1,
            ..GroupConfig::default()
        },
        1,
    );
    assert_eq!(
        all.join(at(0), ETH, ip("192.0.2.1"), NOW),
        Err(Error::NotMulticast(ip("192.0.2.1")))
    );
    all.join(at(0), ETH, ip("239.0.0.1"), NOW).unwrap();
    all.join(at(0), ETH, ip("239.0.0.2"), NOW).unwrap();
    let full = all.join(at(0), ETH, ip("239.0.0.3"), NOW);
    assert!(matches!(
        full,
        Err(Error::Full {
            max: 2,
            key: "groups_max",
            ..
        })
    ));
    all.leave(at(0), ETH, ip("239.0.0.1")).unwrap();
    all.join(at(0), ETH, ip("239.0.0.3"), NOW).unwrap();
    let full = all.join(at(0), OTHER, ip("239.0.0.3"), NOW);
    assert!(matches!(
        full,
        Err(Error::Full {
            max: 1,
            key: "interfaces_max",
            ..
        })
    ));
    all.query(at(0), InterfaceId(3), &query(Protocol::Igmp2));
    all.remove_interface(ETH);
    assert!(!all.member(ETH, &ip("239.0.0.2")));
    assert_eq!(
        run(&mut all, at(60_000))
            .iter()
            .filter(|(_, r)| r.interface == ETH)
            .count(),
        0
    );
}

/// Whatever is called in whatever order: members are those who joined, and each poll ends.
#[test]
fn random_walks_keep_members_and_timers_together() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let config = GroupConfig {
            groups_max: 6,
            ..GroupConfig::default()
        };
        let mut all = Groups::new(config, seed);
        let room = (all.members.capacity(), all.queriers.capacity());
        let mut model = std::collections::BTreeMap::new();
        let mut now = Instant::ZERO;
        for _ in 0..3_000 {
            let n = random.next();
            let interface = InterfaceId(u8::from(n & 1 == 1));
            let last = u8::try_from((n >> 8) % 5 + 2).unwrap();
            let (group, protocols) = match n >> 16 & 1 {
                0 => (
                    IpAddr::V4(Ipv4Addr::new(224, 0, 0, last)),
                    [Protocol::Igmp1, Protocol::Igmp2, Protocol::Igmp3],
                ),
                _ => (
                    IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, last.into())),
                    [Protocol::Mld1, Protocol::Mld2, Protocol::Mld2],
                ),
            };
            match (n >> 24) % 8 {
                0 | 1 => {
                    let joined =
                        all.join(now, interface, group, random.within(Duration::from_secs(1)));
                    if joined.is_ok() {
                        *model.entry((interface, group)).or_insert(0) += 1;
                    } else {
                        assert_eq!(model.len(), 6);
                    }
                }
                2 | 3 => {
                    let left = all.leave(now, interface, group);
                    assert_eq!(left.is_ok(), model.contains_key(&(interface, group)));
                    if left.is_ok() {
                        *model.get_mut(&(interface, group)).unwrap() -= 1;
                    }
                    model.retain(|_, count| *count > 0);
                }
                4 => {
                    let asked = Query {
                        protocol: protocols[usize::try_from((n >> 32) % 3).unwrap()],
                        group: (n >> 40 & 1 == 0).then_some(group),
                        max_response: random.within(Duration::from_secs(20)),
                        robustness: u8::try_from(n >> 41 & 7).unwrap(),
                        interval: Duration::from_secs(n >> 44 & 31),
                    };
                    all.query(now, interface, &asked);
                }
                5 => all.heard_report(now, interface, group),
                6 if n >> 50 & 7 == 0 => all.announce(now, interface, n >> 16 & 1 == 1),
                _ => now = now + random.within(Duration::from_secs(4)),
            }
            if n >> 56 & 1 == 0 {
                let reports = std::iter::from_fn(|| all.poll(now))
                    .take(1_000)
                    .collect::<Vec<_>>();
                assert!(reports.len() < 100, "seed {seed}");
                for report in reports {
                    let count = report.records().len();
                    assert!(count == 1 || (count > 1 && report.protocol.has_records()));
                    assert!(
                        report
                            .records()
                            .iter()
                            .all(|r| family(r.group) == report.protocol.family())
                    );
                }
                assert!(all.next_timeout().is_none_or(|next| next > now));
            }
            assert!(all.iter().count() == model.len());
            for ((interface, group), count) in &model {
                assert!(all.member(*interface, group));
                assert!(
                    all.iter()
                        .any(|entry| entry == (*interface, *group, *count))
                );
            }
        }
        assert_eq!(room, (all.members.capacity(), all.queriers.capacity()));
    }
}
