//! What the encodings, the values and the errors look like.

use std::fmt::{Debug, Write as _};

use expect_test::{Expect, expect};
use leveret_wire::{
    Error, frame,
    method::{Method, basic, channel, connection, queue},
    properties::Properties,
    table::{FieldArray, FieldTable, Table, Value},
};

use crate::fields::Fields;

/// Compares what `value` prints with the snapshot.
fn check(value: impl Debug, expect: Expect) {
    expect.assert_eq(&format!("{value:#?}\n"));
}

/// Octets as a person reads them: 16 to a line, text beside the numbers.
struct Hex(Vec<u8>);

impl Debug for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, line) in self.0.chunks(16).enumerate() {
            let numbers = line.iter().fold(String::new(), |mut out, octet| {
                let _ = write!(out, "{octet:02x} ");
                out
            });
            let text: String =
                line.iter().map(|&octet| if octet.is_ascii_graphic() { octet as char } else { '.' }).collect();
            let newline = if n == 0 { "" } else { "\n" };
            write!(f, "{newline}{numbers:48} {text}")?;
        }
        Ok(())
    }
}

fn method_frame<'a>(method: impl Into<Method<'a>>) -> Hex {
    let mut out = Vec::new();
    frame::write_method(&mut out, 1, &method.into());
    Hex(out)
}

fn parse_error(bytes: &[u8]) -> String {
    match frame::parse(bytes, 4096) {
        Err(error) => text(error),
        Ok(frame) => panic!("{frame:?} is no error"),
    }
}

fn text(error: Error) -> String {
    format!("{} {}", error.reply_code(), error.reply_text())
}

#[test]
fn publish() {
    let publish = basic::Publish { exchange: "amq.topic", routing_key: "ping", mandatory: true, immediate: false };
    check(
        method_frame(publish),
        expect![[r#"
        01 00 01 00 00 00 16 00 3c 00 28 00 00 09 61 6d  ........<.(...am
        71 2e 74 6f 70 69 63 04 70 69 6e 67 01 ce        q.topic.ping..
    "#]],
    );
}

#[test]
fn a_whole_message() {
    let mut out = Vec::new();
    let publish = basic::Publish { exchange: "", routing_key: "q", ..Default::default() };
    frame::write_method(&mut out, 1, &publish.into());
    let mut list = Vec::new();
    let headers = FieldTable::new().with("n", 1i64);
    let properties = Properties {
        content_type: Some("text/plain"),
        headers: Some(headers.as_table()),
        delivery_mode: Some(2),
        timestamp: Some(1_700_000_000),
        ..Default::default()
    };
    properties.encode(&mut list);
    frame::write_header(&mut out, 1, 12, &list);
    frame::write_body(&mut out, 1, b"hello, world", 16);
    frame::write_heartbeat(&mut out);
    check(
        Hex(out),
        expect![[r#"
        01 00 01 00 00 00 0a 00 3c 00 28 00 00 00 01 71  ........<.(....q
        00 ce 02 00 01 00 00 00 31 00 3c 00 00 00 00 00  ........1.<.....
        00 00 00 00 0c b0 40 0a 74 65 78 74 2f 70 6c 61  ......@.text/pla
        69 6e 00 00 00 0b 01 6e 6c 00 00 00 00 00 00 00  in.....nl.......
        01 02 00 00 00 00 65 53 f1 00 ce 03 00 01 00 00  ......eS........
        00 08 68 65 6c 6c 6f 2c 20 77 ce 03 00 01 00 00  ..hello,.w......
        00 04 6f 72 6c 64 ce 08 00 00 00 00 00 00 ce     ..orld.........
    "#]],
    );
    check(
        Properties::decode(&list),
        expect![[r#"
        Ok(
            Properties {
                content_type: Some(
                    "text/plain",
                ),
                content_encoding: None,
                headers: Some(
                    {
                        "n": I64(1),
                    },
                ),
                delivery_mode: Some(
                    2,
                ),
                priority: None,
                correlation_id: None,
                reply_to: None,
                expiration: None,
                message_id: None,
                timestamp: Some(
                    1700000000,
                ),
                type: None,
                user_id: None,
                app_id: None,
                cluster_id: None,
            },
        )
    "#]],
    );
}

#[test]
fn arguments() {
    let arguments = FieldTable::new().with("x-message-ttl", 60_000).with("x-queue-type", "classic");
    let declare = queue::Declare {
        queue: "test",
        auto_delete: true,
        no_wait: true,
        arguments: arguments.as_table(),
        ..Default::default()
    };
    check(
        method_frame(declare),
        expect![[r#"
        01 00 01 00 00 00 3c 00 32 00 0a 00 00 04 74 65  ......<.2.....te
        73 74 18 00 00 00 2c 0d 78 2d 6d 65 73 73 61 67  st....,.x-messag
        65 2d 74 74 6c 49 00 00 ea 60 0c 78 2d 71 75 65  e-ttlI...`.x-que
        75 65 2d 74 79 70 65 53 00 00 00 07 63 6c 61 73  ue-typeS....clas
        73 69 63 ce                                      sic.
    "#]],
    );
    check(
        declare,
        expect![[r#"
        Declare {
            queue: "test",
            passive: false,
            durable: false,
            exclusive: false,
            auto_delete: true,
            no_wait: true,
            arguments: {
                "x-message-ttl": I32(60000),
                "x-queue-type": LongString("classic"),
            },
        }
    "#]],
    );
}

#[test]
fn reserved_fields_are_zero() {
    check(
        method_frame(connection::Open { virtual_host: "/" }),
        expect![[r#"
        01 00 01 00 00 00 08 00 0a 00 28 01 2f 00 00 ce  ..........(./...
    "#]],
    );
    check(
        method_frame(channel::OpenOk),
        expect![[r#"
        01 00 01 00 00 00 08 00 14 00 0b 00 00 00 00 ce  ................
    "#]],
    );
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let mut out = Vec::new();
    let reply_text = format!("NOT_FOUND - no queue '{}'", "é".repeat(200));
    let close = connection::Close { reply_code: 404, reply_text: &reply_text, ..Default::default() };
    Method::from(close).encode(&mut out);
    let Ok(Method::ConnectionClose(decoded)) = Method::decode(&out) else { panic!("not a close") };
    // 22 octets before the first of two octets each: the 255th would be half of one.
    assert_eq!(decoded.reply_text, &reply_text[..254]);
}

#[test]
fn credentials_are_not_printed() {
    let start_ok = connection::StartOk {
        client_properties: Table::EMPTY,
        mechanism: "PLAIN",
        response: b"\0guest\0secret",
        locale: "en_US",
    };
    check(
        Method::from(start_ok),
        expect![[r#"
        ConnectionStartOk(
            StartOk {
                client_properties: {},
                mechanism: "PLAIN",
                response: "[redacted]",
                locale: "en_US",
            },
        )
    "#]],
    );
    check(
        connection::SecureOk { response: b"secret" },
        expect![[r#"
        SecureOk {
            response: "[redacted]",
        }
    "#]],
    );
    check(
        connection::UpdateSecret { new_secret: b"secret", reason: "expired" },
        expect![[r#"
        UpdateSecret {
            new_secret: "[redacted]",
            reason: "expired",
        }
    "#]],
    );
}

#[test]
fn every_type_of_value() {
    let fields = Fields::fixed();
    check(
        fields.table(2),
        expect![[r#"
        {
            "a": Bool(true),
            "b": I8(-1),
            "c": U8(255),
            "d": I16(-2),
            "e": U16(65535),
            "f": I32(-3),
            "g": U32(4294967295),
            "h": I64(-4),
            "i": I64(-1),
            "j": F32(1.5),
            "k": F64(-0.25),
            "l": Decimal(314e-2),
            "m": LongString("text"),
            "n": [
                I32(1),
                {
                    "k": Void,
                },
            ],
            "o": Timestamp(1700000000),
            "p": {
                "k": Void,
            },
            "q": Bytes("\x00\xff"),
            "r": Void,
        }
    "#]],
    );
    check(
        Hex(fields.table(2).as_bytes().to_vec()),
        expect![[r#"
        01 61 74 01 01 62 62 ff 01 63 42 ff 01 64 73 ff  .at..bb..cB..ds.
        fe 01 65 75 ff ff 01 66 49 ff ff ff fd 01 67 69  ..eu...fI.....gi
        ff ff ff ff 01 68 6c ff ff ff ff ff ff ff fc 01  .....hl.........
        69 4c ff ff ff ff ff ff ff ff 01 6a 66 3f c0 00  iL.........jf?..
        00 01 6b 64 bf d0 00 00 00 00 00 00 01 6c 44 02  ..kd.........lD.
        00 00 01 3a 01 6d 53 00 00 00 04 74 65 78 74 01  ...:.mS....text.
        6e 41 00 00 00 0d 49 00 00 00 01 46 00 00 00 03  nA....I....F....
        01 6b 56 01 6f 54 00 00 00 00 65 53 f1 00 01 70  .kV.oT....eS...p
        46 00 00 00 03 01 6b 56 01 71 78 00 00 00 02 00  F.....kV.qx.....
        ff 01 72 56                                      ..rV
    "#]],
    );
    let names: Vec<_> = fields.table(2).iter().map(|(_, value)| value.type_name()).collect();
    check(
        names.join(" "),
        expect![[r#"
        "bool byte unsignedbyte short unsignedshort signedint unsignedint long long float double decimal longstr array timestamp table binary void"
    "#]],
    );
}

#[test]
fn built_tables_have_only_old_types() {
    let table = FieldTable::new()
        .with("bool", true)
        .with("i8", -1i8)
        .with("u8", 255u8)
        .with("i16", -1i16)
        .with("u16", 65_535u16)
        .with("i32", -1)
        .with("u32", u32::MAX)
        .with("i64", -1i64)
        .with("u64", 1u64)
        .with("u64, too large", u64::MAX)
        .with("f64", 0.5)
        .with("text", "classic")
        .with("time", Value::Timestamp(1_700_000_000))
        .with("array", &FieldArray::new().with(1i64).with("two"))
        .with("table", &FieldTable::new().with("basic.nack", true))
        .with("octets", &[1u8, 2][..])
        .with("void", Value::Void);
    check(
        table,
        expect![[r#"
        {
            "bool": Bool(true),
            "i8": I8(-1),
            "u8": I16(255),
            "i16": I16(-1),
            "u16": I32(65535),
            "i32": I32(-1),
            "u32": I64(4294967295),
            "i64": I64(-1),
            "u64": I64(1),
            "u64, too large": LongString("18446744073709551615"),
            "f64": F64(0.5),
            "text": LongString("classic"),
            "time": Timestamp(1700000000),
            "array": [
                I64(1),
                LongString("two"),
            ],
            "table": {
                "basic.nack": Bool(true),
            },
            "octets": Bytes("\x01\x02"),
            "void": Void,
        }
    "#]],
    );
}

#[test]
fn the_first_of_equal_keys_counts() {
    let table = Table::new(b"\x01kt\x00\x01jt\x00\x01kt\x01").expect("valid");
    assert_eq!(table.get("k"), Some(Value::Bool(false)));
    assert_eq!(table.get("absent"), None);
    let mut owned = FieldTable::from(table);
    owned.insert("k", 1);
    check(
        owned,
        expect![[r#"
        {
            "j": Bool(false),
            "k": I32(1),
        }
    "#]],
    );
}

#[test]
fn integers_of_any_width_are_integers() {
    let fields = Fields::fixed();
    let integers: Vec<_> = fields.table(2).iter().filter_map(|(key, value)| Some((key, value.as_i64()?))).collect();
    check(
        format!("{integers:?}"),
        expect![[r#"
        "[(\"b\", -1), (\"c\", 255), (\"d\", -2), (\"e\", 65535), (\"f\", -3), (\"g\", 4294967295), (\"h\", -4), (\"i\", -1)]"
    "#]],
    );
}

#[test]
fn errors() {
    let head = |kind: u8, channel: u8, size: [u8; 4]| [&[kind, 0, channel][..], &size].concat();
    check(
        parse_error(b"GET / HTTP/1.1\r\n"),
        expect![[r#"
        "501 FRAME_ERROR - type 71: unknown_frame"
    "#]],
    );
    check(
        parse_error(&head(3, 1, [0, 0, 16, 1])),
        expect![[r#"
            "501 FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,4097,4088}"
        "#]],
    );
    check(
        parse_error(&head(1, 1, [0xFF; 4])),
        expect![[r#"
            "501 FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,4294967295,4088}"
        "#]],
    );
    check(
        parse_error(&head(8, 1, [0; 4])),
        expect![[r#"
        "505 UNEXPECTED_FRAME - unexpected heartbeat frame on channel 1, expected it on channel 0"
    "#]],
    );
    check(
        parse_error(&head(8, 0, [0, 0, 0, 1])),
        expect![[r#"
        "501 FRAME_ERROR - type 8: unknown_frame, a payload of 1 octets is not possible"
    "#]],
    );
    check(
        parse_error(b"\x03\0\x01\0\0\0\x01xA"),
        expect![[r#"
        "501 FRAME_ERROR - type 3: {invalid_frame_end_marker,65}"
    "#]],
    );
    let method_error = |payload| text(Method::decode(payload).expect_err("no method"));
    check(
        method_error(&[0, 60, 0, 41]),
        expect![[r#"
        "503 COMMAND_INVALID - unknown method: class 60, method 41"
    "#]],
    );
    check(
        method_error(&[0, 60, 0]),
        expect![[r#"
        "501 FRAME_ERROR - type 1: unknown_frame, a payload of 3 octets is not possible"
    "#]],
    );
    check(
        method_error(b"\0\x3C\0\x28\0\0\x09amq"),
        expect![[r#"
        "502 SYNTAX_ERROR - cannot decode: a length points past the end"
    "#]],
    );
    check(
        method_error(b"\0\x3C\0\x50\0\0\0\0\0\0\0\x01\x01\0"),
        expect![[r#"
        "502 SYNTAX_ERROR - cannot decode: octets follow the last argument"
    "#]],
    );
    check(
        text(Error::TableTooDeep),
        expect![[r#"
        "502 SYNTAX_ERROR - cannot decode: tables and arrays are nested more than 32 deep"
    "#]],
    );
    check(
        text(Table::new(b"\x01kz").expect_err("unknown")),
        expect![[r#"
        "502 SYNTAX_ERROR - cannot decode: a field table holds a value of unknown type"
    "#]],
    );
    check(
        text(Properties::decode(&[0, 2]).expect_err("unknown")),
        expect![[r#"
        "502 SYNTAX_ERROR - cannot decode: a flag of an unknown property is set"
    "#]],
    );
}

#[test]
fn frame_max_has_the_tolerance_of_rabbitmq() {
    let head = |size: u32| [&[3, 0, 1][..], &size.to_be_bytes()].concat();
    assert!(frame::parse_head(&head(4096), 4096).is_ok_and(|head| head.is_some()));
    assert!(frame::parse_head(&head(4097), 4096).is_err());
    assert!(frame::parse_head(&head(u32::MAX), 0).is_ok());
    assert!(frame::parse_head(&head(u32::MAX), u32::MAX).is_ok());
}

#[test]
fn words_of_flags_may_be_continued() {
    // Nothing but the bit that says that another word follows, then an empty one.
    assert_eq!(Properties::decode(&[0x10, 1, 0, 0, 2]), Properties::decode(&[0x10, 0, 2]));
    assert!(Properties::decode(&[0x10, 1, 0x80, 0, 2]).is_err());
    assert!(Properties::decode(&[0, 1]).is_err());
    assert_eq!(Properties::decode(&[0, 0]), Ok(Properties::EMPTY));
}

#[test]
fn ids_may_be_binary() {
    let id = [0xff, 0, 0xfe];
    let properties = Properties { correlation_id: Some(&id), message_id: Some(&id), ..Properties::EMPTY };
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    assert_eq!(Properties::decode(&encoded), Ok(properties));
}
