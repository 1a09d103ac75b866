//! Input that isn't AMQP: cut, overlong, nested, not UTF-8, with flipped bits.

use leveret_wire::{
    Error, frame,
    method::{Method, reply_code},
    properties::Properties,
    table::{MAX_DEPTH, Table},
};

use crate::{
    bodies,
    fields::Fields,
    fuzz::nested,
    sample::{METHODS, sample},
};

#[test]
fn a_method_cut_anywhere_is_refused() {
    let fields = Fields::fixed();
    for index in 0..METHODS {
        let mut whole = Vec::new();
        sample(index, &fields).encode(&mut whole);
        for len in 0..whole.len() {
            let result = Method::decode(&whole[..len]);
            let expected = if len < 4 {
                Error::PayloadSize { kind: 1, size: len }
            } else {
                Error::Syntax("a length points past the end")
            };
            assert_eq!(result, Err(expected), "{len} octets of {whole:?}");
        }
        whole.push(0);
        assert_eq!(Method::decode(&whole), Err(Error::Syntax("octets follow the last argument")));
    }
}

#[test]
fn a_frame_cut_anywhere_is_incomplete() {
    let fields = Fields::fixed();
    for index in 0..METHODS {
        let mut whole = Vec::new();
        frame::write_method(&mut whole, 1, &sample(index, &fields));
        for len in 0..whole.len() {
            assert_eq!(frame::parse(&whole[..len], 4096), Ok(None));
            assert_eq!(frame::parse_head(&whole[..len], 4096).map(|head| head.is_some()), Ok(len >= 7));
        }
    }
}

#[test]
fn properties_cut_anywhere_are_refused() {
    let fields = Fields::fixed();
    let mut whole = Vec::new();
    fields.properties(u32::MAX).encode(&mut whole);
    for len in 0..whole.len() {
        assert!(matches!(Properties::decode(&whole[..len]), Err(Error::Syntax(_))));
    }
}

#[test]
fn any_single_flipped_bit_is_survived() {
    let fields = Fields::fixed();
    for index in 0..METHODS {
        let mut whole = Vec::new();
        frame::write_method(&mut whole, 1, &sample(index, &fields));
        for bit in 0..whole.len() * 8 {
            whole[bit / 8] ^= 1 << (bit % 8);
            bodies::frame(&whole);
            whole[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_million_nested_tables_are_refused_without_recursion() {
    // Written from the outside, each length what is left: 7 octets a level.
    let levels: u32 = 1_000_000;
    for (kind, key, per_level) in [(b'F', &[1, b'k'][..], 8), (b'A', &[], 5)] {
        let mut bomb = vec![];
        for level in (0..levels).rev() {
            bomb.extend_from_slice(if level + 1 == levels { &[1, b'k'] } else { key });
            bomb.push(kind);
            bomb.extend_from_slice(&(level * (per_level - u32::from(kind == b'F'))).to_be_bytes());
        }
        let small_stack = std::thread::Builder::new().stack_size(64 * 1024);
        let check = move || Table::new(&bomb).map(|_| ());
        let result = small_stack.spawn(check).expect("a thread").join().expect("no overflow");
        assert_eq!(result, Err(Error::TableTooDeep));
    }
}

#[test]
fn the_depth_limit_is_exact() {
    // An empty table at the end is a level too.
    assert!(Table::new(&nested(MAX_DEPTH - 1)).is_ok());
    assert_eq!(Table::new(&nested(MAX_DEPTH)), Err(Error::TableTooDeep));
    assert!(!format!("{:?}", Table::new(&nested(MAX_DEPTH - 1))).is_empty());
}

#[test]
fn a_large_flat_table_is_fine() {
    let mut entries = Vec::new();
    for _ in 0..500_000 {
        // Siblings don't add up to depth.
        entries.extend_from_slice(&[1, b'k', b'F', 0, 0, 0, 0, 0, b'A', 0, 0, 0, 0]);
    }
    assert_eq!(Table::new(&entries).map(|table| table.iter().count()), Ok(1_000_000));
}

#[test]
fn lengths_past_the_end_are_refused() {
    let past = Err(Error::Syntax("a length points past the end"));
    for entries in [
        &[5, b'k'][..],
        &[1, b'k'],
        &[1, b'k', b'S', 0xFF, 0xFF, 0xFF, 0xFF, 0],
        &[1, b'k', b'x', 0, 0, 0, 2, 0],
        &[1, b'k', b'F', 0, 0, 0, 9, 1, b'k', b'V'],
        &[1, b'k', b'A', 0x80, 0, 0, 0],
        &[1, b'k', b'l', 0, 0, 0, 0],
        // The inner table ends inside its only value, though the outer one goes on.
        &[1, b'k', b'F', 0, 0, 0, 4, 1, b'k', b'l', 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        assert_eq!(Table::new(entries), past, "{entries:?}");
    }
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let refused = Error::Syntax("a short string is not UTF-8");
    assert_eq!(Table::new(&[1, 0xFF, b'V']), Err(refused));
    // The key of a nested table too: iterating must not stop there.
    assert_eq!(Table::new(&[1, b'k', b'F', 0, 0, 0, 3, 1, 0xC0, b'V']), Err(refused));
    assert_eq!(Method::decode(b"\0\x3C\0\x28\0\0\x02\xC3\x28\0\0"), Err(refused));
    assert_eq!(Properties::decode(&[0x80, 0, 1, 0x80]), Err(refused));
    // A long string may hold anything, and a reserved field is not looked at.
    assert!(Table::new(&[1, b'k', b'S', 0, 0, 0, 1, 0xFF]).is_ok());
    assert!(Method::decode(b"\0\x14\0\x0A\x01\xFF").is_ok());
}

#[test]
fn every_reply_code_has_its_name() {
    let codes = |code: &u16| reply_code::name(*code) != "UNKNOWN";
    assert_eq!((0..=u16::MAX).filter(codes).count(), 19);
}
