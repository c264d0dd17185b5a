use super::*;

const TRAFFIC: Traffic = Traffic {
    users: 700,
    rate_pps: 1.0,
    seconds: 30.0,
    seed: 3,
};

fn part(text: &str) -> Part {
    let part = run(&TRAFFIC, text.parse().unwrap()).unwrap();
    Part {
        took_seconds: 1.0,
        ..part
    }
}

#[test]
fn parts_add_up_to_the_whole_however_many_they_are() {
    let whole = part("1/1");
    for all in [vec!["1/2", "2/2"], vec!["3/3", "1/3", "2/3"]] {
        let parts: Vec<Part> = all.iter().map(|text| part(text)).collect();
        for part in &parts {
            assert!(part.counts.packets > 0 && part.counts.packets < whole.counts.packets);
        }
        let merged = merge(parts).unwrap();
        assert_eq!(merged.took_seconds, all.len() as f64);
        assert_eq!(merged.counts, whole.counts, "{all:?}");
        assert_eq!(merged.checks().unwrap(), whole.checks().unwrap());
    }
    // About so many slots; what comes from a user comes over no link of nodes.
    assert!((20_000..22_000).contains(&whole.counts.packets));
    let carried: u64 = whole.counts.links.iter().map(|(_, _, count)| count).sum();
    assert_eq!(carried + whole.counts.packets, whole.counts.events);
    // (30 s / 50 ms − 20) / 4 looks at 90 mixes.
    assert_eq!(whole.counts.pools.len(), 145 * 90);
}

#[test]
fn a_whole_run_follows_the_law_and_a_part_alone_does_not() {
    let passed = |part: &Part| {
        let checks = part.checks().unwrap();
        checks.iter().map(|check| check.passed).collect::<Vec<_>>()
    };
    assert_eq!(passed(&part("1/1")), [true, true, true]);
    // Half of the users fill pools half as much.
    assert_eq!(passed(&part("1/2")), [true, false, true]);
}

#[test]
fn parts_that_are_missing_there_twice_or_of_another_run_are_refused() {
    let refused = |parts: Vec<Part>| merge(parts).unwrap_err().to_string();
    let (one, two) = (part("1/2"), part("2/2"));
    let said = refused(vec![one.clone()]);
    assert!(said.contains("these are [1], missing are [2]"), "{said}");
    assert!(refused(vec![one.clone(), two.clone(), two.clone()]).contains("[1, 2, 2]"));
    let other = Part { seed: 4, ..two };
    let said = refused(vec![one.clone(), other]);
    assert_eq!(said, "part 2 of 2 is of another run than part 1 of 2");
    assert!(refused(vec![one, part("2/3")]).contains("of another run"));
    assert!(refused(Vec::new()).contains("no part"));
}

#[test]
fn attack_a_part_that_can_not_be_is_refused_before_it_takes_memory() {
    let part = part("1/2");
    assert_eq!(part.examine(), Ok(()));
    let changed = |change: &dyn Fn(&mut Part)| {
        let mut changed = part.clone();
        change(&mut changed);
        let said = changed.examine().unwrap_err();
        // With all other parts, or as many as it says.
        let merged = merge(vec![changed]).unwrap_err().to_string();
        assert!(merged.ends_with(&said), "{merged}");
        said
    };
    let of = changed(&|part| part.shard.of = u32::MAX);
    assert!(of.contains("64 parts at most"), "{of}");
    changed(&|part| part.shard.number = 0);
    changed(&|part| part.users = u32::MAX);
    changed(&|part| part.simulated_seconds = 1e300);
    changed(&|part| part.counts.packets *= 4);
    let pools = changed(&|part| part.counts.pools.truncate(90));
    assert!(pools.contains("90 pools are in it and 13050"), "{pools}");
    changed(&|part| part.counts.pools[0] = u32::MAX);
    let links = changed(&|part| part.counts.links.truncate(100));
    assert!(links.contains("damaged or not whole"), "{links}");
    changed(&|part| part.counts.links[0].2 = u64::MAX);
    changed(&|part| part.counts.delays_ms.resize(3_000, 0));
    changed(&|part| part.counts.delays_ms[0] = u64::MAX);
}

#[test]
fn a_part_is_named_by_its_number_and_how_many_there_are() {
    assert_eq!("2/4".parse(), Ok(Shard { number: 2, of: 4 }));
    for refused in ["0/4", "5/4", "1/65", "1", "1/0", "a/b", ""] {
        assert!(refused.parse::<Shard>().is_err(), "{refused}");
    }
    // Each user is in one block.
    let blocks: Vec<_> = (0..BLOCKS).map(|number| block(700, number)).collect();
    assert_eq!((blocks[0].start, blocks[63].end), (0, 700));
    assert!(blocks.windows(2).all(|two| two[0].end == two[1].start));
}
