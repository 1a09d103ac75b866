//! Random values there and back.

use leveret_wire::{
    frame,
    method::Method,
    properties::{ContentHeader, Properties},
    table::{FieldTable, Table, Value},
};
use proptest::{collection, prelude::*};

use crate::{
    fields::{Fields, Model, built, bytes, same, same_table, short_str, table},
    sample::{METHODS, sample},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn method(index in 0..METHODS, fields in Fields::any(), channel: u16) {
        let method = sample(index, &fields);
        let mut out = vec![7];
        frame::write_method(&mut out, channel, &method);
        let (frame, consumed) = frame::parse(&out[1..], 0).expect("valid").expect("complete");
        prop_assert_eq!((frame.kind, frame.channel, consumed), (frame::METHOD, channel, out.len() - 1));
        let decoded = Method::decode(frame.payload);
        prop_assert_eq!(decoded, Ok(method));
        let mut again = Vec::new();
        method.encode(&mut again);
        prop_assert_eq!(again, frame.payload);
    }

    #[test]
    fn properties(fields in Fields::any(), present: u32, body_size: u64) {
        let properties = fields.properties(present);
        let mut list = Vec::new();
        properties.encode(&mut list);
        let headers = properties.headers;
        prop_assert_eq!(Properties::decode(&list), Ok(properties));
        prop_assert_eq!(Properties::stored_headers(&list), headers);
        let mut out = Vec::new();
        frame::write_header(&mut out, 9, body_size, &list);
        let (frame, _) = frame::parse(&out, 0).expect("valid").expect("complete");
        let header = ContentHeader { class_id: 60, body_size, properties: &list };
        prop_assert_eq!(ContentHeader::decode(frame.payload), Ok(header));
    }

    #[test]
    fn table_of_any_types(entries in table()) {
        let encoded = bytes(&entries);
        let table = Table::new(&encoded).expect("valid");
        prop_assert!(same_table(&entries, table));
        // A copy is exact to the octet.
        let copy = FieldTable::from(table);
        prop_assert_eq!(copy.as_table().as_bytes(), &encoded);
        prop_assert_eq!(copy.clone(), copy);
    }

    #[test]
    fn table_through_the_builder(entries in table()) {
        let built = built(&entries);
        let again = Table::new(built.as_table().as_bytes());
        prop_assert_eq!(again, Ok(built.as_table()));
        for (key, value) in &entries {
            let found = built.get(key).expect("inserted");
            prop_assert!(originated(value, found), "{:?} became {:?}", value, found);
        }
    }

    #[test]
    fn insert_and_remove_are_those_of_a_map(steps in collection::vec((short_str(), any::<Option<i64>>()), 0..12)) {
        let mut table = FieldTable::new();
        let mut model = std::collections::BTreeMap::new();
        for (key, value) in &steps {
            match value {
                Some(n) => { table.insert(key, *n); model.insert(key.as_str(), *n); }
                None => prop_assert_eq!(table.remove(key), model.remove(key.as_str()).is_some()),
            }
        }
        let found: std::collections::BTreeMap<_, _> =
            table.as_table().iter().map(|(key, value)| (key, value.as_i64().expect("an integer"))).collect();
        prop_assert_eq!(table.as_table().iter().count(), model.len());
        prop_assert_eq!(found, model);
    }

    #[test]
    fn body(body in collection::vec(any::<u8>(), 0..300), frame_max in 9u32..64) {
        let mut out = Vec::new();
        frame::write_body(&mut out, 3, &body, frame_max);
        let (mut rest, mut joined) = (&out[..], Vec::new());
        while let Some((frame, consumed)) = frame::parse(rest, 0).expect("valid") {
            prop_assert_eq!((frame.kind, frame.channel), (frame::BODY, 3));
            prop_assert!(consumed <= frame_max as usize && !frame.payload.is_empty());
            joined.extend_from_slice(frame.payload);
            rest = &rest[consumed..];
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(joined, body);
    }

    #[test]
    fn anything_at_all_is_survived(data in collection::vec(any::<u8>(), 0..200)) {
        crate::bodies::frame(&data);
        crate::bodies::method(&data);
        crate::bodies::properties(&data);
        crate::bodies::table(&data);
    }
}

/// What `FieldTable` says it makes of a value that is inserted.
fn originated(model: &Model, value: Value<'_>) -> bool {
    match (model, value) {
        (Model::U8(a), Value::I16(b)) => i16::from(*a) == b,
        (Model::U16(a), Value::I32(b)) => i32::from(*a) == b,
        (Model::U32(a), Value::I64(b)) => i64::from(*a) == b,
        (Model::U64(a), Value::I64(b)) => u64::try_from(b) == Ok(*a),
        (Model::U64(a), value) => *a > i64::MAX as u64 && value.as_str() == Some(&a.to_string()),
        // Nested values keep their types.
        (model, value) => same(model, value),
    }
}
