//! The language: what is accepted, what it means, and where an error is.

use super::*;
use expect_test::{Expect, expect};
use leveret_wire::table::{FieldArray, FieldTable, Table, Value};
use proptest::prelude::*;

/// Parses each line: its canonical text, or the error.
fn check(texts: &str, expected: Expect) {
    let lines = texts.lines().map(str::trim).filter(|line| !line.is_empty());
    let said = lines.map(|line| match Filter::parse(line) {
        Ok(filter) => format!("{filter}\n"),
        Err(error) => format!("{line}\n{}^ {error}\n", " ".repeat(error.position)),
    });
    expected.assert_eq(&said.collect::<String>());
}

fn headers() -> FieldTable {
    FieldTable::new()
        .with("name", "com")
        .with("empty", "")
        .with("iana.org/language_tag", "en")
        .with("count", 12i32)
        .with("negative", i64::MIN)
        .with("yes", true)
        .with("no", false)
        .with("half", 0.5f64)
        .with("at", Value::Timestamp(1_700_000_000))
        .with("nothing", Value::Void)
        .with("bytes", Value::Bytes(b"com"))
        .with("list", &FieldArray::new().with("com"))
        .with("twice", "first")
}

/// Which of these lines are true of [`headers`] and the properties below.
fn check_matches(texts: &str, expected: Expect) {
    let mut bytes = headers().as_table().as_bytes().to_vec();
    // What a table that is built here does not have and one that is sent may have: a name twice, and 64 bits after `L`.
    bytes.extend_from_slice(FieldTable::new().with("twice", "second").as_table().as_bytes());
    bytes.extend_from_slice(b"\x03bigL\x7f\xff\xff\xff\xff\xff\xff\xff");
    let properties = Properties {
        headers: Some(Table::new(&bytes).expect("a table")),
        content_type: Some("text/plain"),
        delivery_mode: Some(2),
        priority: Some(7),
        message_id: Some(b"m-1"),
        timestamp: Some(1_700_000_000),
        r#type: Some("order"),
        ..Properties::EMPTY
    };
    let lines = texts.lines().map(str::trim).filter(|line| !line.is_empty());
    let said = lines.map(|line| {
        let filter = Filter::parse(line).expect("a filter");
        format!("{:5} {line}\n", filter.matches(&properties))
    });
    expected.assert_eq(&said.collect::<String>());
}

#[test]
fn the_examples_of_pubsub_are_accepted() {
    check(
        r#"
        attributes:name
        NOT attributes:name
        attributes.name = "com"
        attributes.name != "com"
        hasPrefix(attributes.name, "co")
        NOT hasPrefix(attributes.name, "co")
        attributes."iana.org/language_tag" = "en"
        attributes:"\u307F\u3093\u306A"
        attributes:"iana.org/language_tag" AND NOT attributes.name = "com"
        attributes:"iana.org/language_tag" AND (attributes.name = "net" OR attributes.name = "org")
        attributes.name = "com" AND -attributes:"iana.org/language_tag"
        "#,
        expect![[r#"
            attributes:name
            NOT attributes:name
            attributes.name = "com"
            attributes.name != "com"
            hasPrefix(attributes.name, "co")
            NOT hasPrefix(attributes.name, "co")
            attributes."iana.org/language_tag" = "en"
            attributes:"みんな"
            attributes:"iana.org/language_tag" AND attributes.name != "com"
            attributes:"iana.org/language_tag" AND (attributes.name = "net" OR attributes.name = "org")
            attributes.name = "com" AND NOT attributes:"iana.org/language_tag"
        "#]],
    );
}

#[test]
fn what_pubsub_calls_invalid_is_refused() {
    check(
        r#"
        "com" = attributes.name
        attributes.name = attributes.website
        attributes:\u307F\u3093\u306A
        attributes:"iana.org/language_tag" AND attributes.name = "net" OR attributes.name = "org"
        attributes:a OR attributes:b AND attributes:c
        attributes.name = "com" AND ("net" OR "org")
        attributes:a and attributes:b
        not attributes:a
        "#,
        expect![[r#"
            "com" = attributes.name
            ^ expected 'attributes', 'properties', 'hasPrefix', 'NOT', '-' or '(' at byte 0, found '"'
            attributes.name = attributes.website
                              ^ expected a string in double quotes at byte 18, found 'attributes'
            attributes:\u307F\u3093\u306A
                       ^ expected a name of letters, digits, '_' and '-', or one in double quotes, at byte 11, found '\u'
            attributes:"iana.org/language_tag" AND attributes.name = "net" OR attributes.name = "org"
                                                                           ^ expected 'AND', or parentheses around what AND joins, at byte 63, found 'OR'
            attributes:a OR attributes:b AND attributes:c
                                         ^ expected 'OR', or parentheses around what OR joins, at byte 29, found 'AND'
            attributes.name = "com" AND ("net" OR "org")
                                         ^ expected 'attributes', 'properties', 'hasPrefix', 'NOT', '-' or '(' at byte 29, found '"'
            attributes:a and attributes:b
                         ^ expected 'AND', 'OR' or the end at byte 13, found 'and'
            not attributes:a
            ^ expected 'attributes', 'properties', 'hasPrefix', 'NOT', '-' or '(' at byte 0, found 'not'
        "#]],
    );
}

#[test]
fn white_space_and_parentheses_are_free() {
    check(
        r#"
        attributes.a="b"AND(attributes:c)
        (  ( attributes : a ) )   AND(attributes . b  =  "")
        attributes:a AND (attributes:b AND attributes:c)
        ((attributes:a OR attributes:b) AND attributes:c) OR attributes:d
        NOT(attributes:a AND attributes:b)
        NOT NOT attributes:a
        -(-(attributes:a OR attributes:b)) AND attributes:c
        NOT attributes.a != "b"
        hasPrefix ( attributes."a b" , "\"\\\n\x07\101\U0001F407" )
        attributes:AND OR attributes:-a AND-
        attributes.a>=-007 AND -properties.priority<18446744073709551615
        properties:type AND hasPrefix(properties.content_type, "text/")
        "#,
        expect![[r#"
            attributes.a = "b" AND attributes:c
            attributes:a AND attributes.b = ""
            attributes:a AND attributes:b AND attributes:c
            ((attributes:a OR attributes:b) AND attributes:c) OR attributes:d
            NOT (attributes:a AND attributes:b)
            attributes:a
            (attributes:a OR attributes:b) AND attributes:c
            attributes.a = "b"
            hasPrefix(attributes."a b", "\"\\\n\x07A🐇")
            attributes:AND OR attributes:-a AND-
                                            ^ expected 'AND', 'OR' or the end at byte 32, found 'AND-'
            attributes.a >= -7 AND NOT properties.priority < 18446744073709551615
            properties:type AND hasPrefix(properties.content_type, "text/")
        "#]],
    );
}

#[test]
fn an_error_names_position_and_expectation() {
    check(
        r#"
        attributes
        attributes.region foo
        attributes.
        attributes.a.b = "c"
        attributes.a == "b"
        attributes.a = 'b'
        attributes.a = 5
        attributes.a < "5"
        attributes.a < 1e3
        attributes.a < 18446744073709551616
        attributes.a = "b
        attributes.a = "\q"
        attributes.a = "\ud800"
        attributes.a = "\x1"
        attributes.a = "\400"
        attributes.a = "é" x
        attributes:a attributes:b
        attributes:a AND
        attributes:a &
        (attributes:a
        attributes:a)
        ()
        hasSuffix(attributes.a, "b")
        hasPrefix(attributes:a, "b")
        hasPrefix(attributes.a "b")
        hasPrefix(attributes.a, "b"
        hasPrefix("a", "b")
        properties.colour = "red"
        properties:headers
        properties.type < 5
        routing_key = "a"
        "#,
        expect![[r#"
            attributes
                      ^ expected ':' or '.' at byte 10, found the end
            attributes.region foo
                              ^ expected '=', '!=', '<', '<=', '>' or '>=' at byte 18, found 'foo'
            attributes.
                       ^ expected a name of letters, digits, '_' and '-', or one in double quotes, at byte 11, found the end
            attributes.a.b = "c"
                        ^ expected '=', '!=', '<', '<=', '>' or '>=' at byte 12, found '.'
            attributes.a == "b"
                          ^ expected a string in double quotes at byte 14, found '='
            attributes.a = 'b'
                           ^ expected a string in double quotes at byte 15, found '''
            attributes.a = 5
                           ^ expected a string in double quotes at byte 15, found '5'
            attributes.a < "5"
                           ^ expected an integer of at most 64 bits at byte 15, found '"'
            attributes.a < 1e3
                           ^ expected an integer of at most 64 bits at byte 15, found '1e3'
            attributes.a < 18446744073709551616
                           ^ expected an integer of at most 64 bits at byte 15, found '18446744073709551616'
            attributes.a = "b
                             ^ expected '"' at the end of the string at byte 17, found the end
            attributes.a = "\q"
                            ^ expected one of the escapes \" \\ \n \r \t \xHH \uHHHH \UHHHHHHHH and octal \OOO at byte 16, found '\q'
            attributes.a = "\ud800"
                            ^ expected one of the escapes \" \\ \n \r \t \xHH \uHHHH \UHHHHHHHH and octal \OOO at byte 16, found '\u'
            attributes.a = "\x1"
                            ^ expected one of the escapes \" \\ \n \r \t \xHH \uHHHH \UHHHHHHHH and octal \OOO at byte 16, found '\x'
            attributes.a = "\400"
                            ^ expected one of the escapes \" \\ \n \r \t \xHH \uHHHH \UHHHHHHHH and octal \OOO at byte 16, found '\4'
            attributes.a = "é" x
                                ^ expected 'AND', 'OR' or the end at byte 20, found 'x'
            attributes:a attributes:b
                         ^ expected 'AND', 'OR' or the end at byte 13, found 'attributes'
            attributes:a AND
                            ^ expected 'attributes', 'properties', 'hasPrefix', 'NOT', '-' or '(' at byte 16, found the end
            attributes:a &
                         ^ expected 'AND', 'OR' or the end at byte 13, found '&'
            (attributes:a
                         ^ expected 'AND', 'OR' or ')' at byte 13, found the end
            attributes:a)
                        ^ expected 'AND', 'OR' or the end at byte 12, found ')'
            ()
             ^ expected 'attributes', 'properties', 'hasPrefix', 'NOT', '-' or '(' at byte 1, found ')'
            hasSuffix(attributes.a, "b")
            ^ expected 'attributes', 'properties', 'hasPrefix', 'NOT', '-' or '(' at byte 0, found 'hasSuffix'
            hasPrefix(attributes:a, "b")
                                ^ expected '.' at byte 20, found ':'
            hasPrefix(attributes.a "b")
                                   ^ expected ',' at byte 23, found '"'
            hasPrefix(attributes.a, "b"
                                       ^ expected ')' at byte 27, found the end
            hasPrefix("a", "b")
                      ^ expected 'attributes' or 'properties' at byte 10, found '"'
            properties.colour = "red"
                       ^ expected the name of a property, such as type or message_id, at byte 11, found 'colour'
            properties:headers
                       ^ expected the name of a property, such as type or message_id, at byte 11, found 'headers'
            properties.type < 5
                            ^ expected '=' or '!=' at byte 16, found '<'
            routing_key = "a"
            ^ expected 'attributes', 'properties', 'hasPrefix', 'NOT', '-' or '(' at byte 0, found 'routing_key'
        "#]],
    );
    let check = |text: &str, expected: Expect| expected.assert_eq(&Filter::parse(text).expect_err(text).to_string());
    check("", expect!["expected 'attributes', 'properties', 'hasPrefix', 'NOT', '-' or '(' at byte 0, found the end"]);
    check(
        " \t\r\n",
        expect!["expected 'attributes', 'properties', 'hasPrefix', 'NOT', '-' or '(' at byte 4, found the end"],
    );
    check(
        "attributes:\"a\tb\"",
        expect![[r#"expected an escape such as \n or \x00 for a control character at byte 13, found '\t'"#]],
    );
    check(
        &format!("attributes:{} ?", "a".repeat(60)),
        expect!["expected 'AND', 'OR' or the end at byte 72, found '?'"],
    );
    check("attributes:a\u{a0}", expect!["expected 'AND', 'OR' or the end at byte 12, found ' '"]);
}

#[test]
fn length_and_nesting_are_limited() {
    let check = |text: &str, expected: Expect| {
        expected.assert_eq(&Filter::parse(text).map_or_else(|error| error.to_string(), |_| "accepted".to_string()))
    };
    let nested = |depth| "(".repeat(depth) + "attributes:a" + &")".repeat(depth);
    check(&nested(32), expect!["accepted"]);
    check(&nested(33), expect!["expected parentheses at most 32 deep at byte 32, found '('"]);
    check(&"(".repeat(1024), expect!["expected parentheses at most 32 deep at byte 32, found '('"]);
    check(&format!("attributes:{}", "a".repeat(1024 - 11)), expect!["accepted"]);
    check(
        &format!("attributes:{}", "a".repeat(1024 - 10)),
        expect!["expected the end, as a filter has at most 1024 bytes, at byte 1024, found 1 more"],
    );
    check(
        &"NOT ".repeat(253).replace("NOT NOT ", "- NOT  "),
        expect!["expected 'attributes', 'properties', 'hasPrefix', 'NOT', '-' or '(' at byte 886, found the end"],
    );
}

#[test]
fn headers_are_compared_as_text() {
    check_matches(
        r#"
        attributes.name = "com"
        attributes.name = "Com"
        attributes.name != "com"
        attributes.name != "org"
        attributes:missing
        attributes.missing = ""
        attributes.missing != "com"
        NOT attributes.missing = "com"
        attributes.empty = ""
        hasPrefix(attributes.name, "co")
        hasPrefix(attributes.name, "com.")
        hasPrefix(attributes.empty, "")
        hasPrefix(attributes.missing, "")
        attributes.count = "12"
        attributes.count = "012"
        hasPrefix(attributes.count, "1")
        attributes.big = "9223372036854775807"
        attributes.negative = "-9223372036854775808"
        attributes.yes = "true"
        attributes.no = "false"
        attributes.at = "1700000000"
        attributes.twice = "first"
        attributes.twice = "second"
        "#,
        expect![[r#"
            true  attributes.name = "com"
            false attributes.name = "Com"
            false attributes.name != "com"
            true  attributes.name != "org"
            false attributes:missing
            false attributes.missing = ""
            true  attributes.missing != "com"
            true  NOT attributes.missing = "com"
            true  attributes.empty = ""
            true  hasPrefix(attributes.name, "co")
            false hasPrefix(attributes.name, "com.")
            true  hasPrefix(attributes.empty, "")
            false hasPrefix(attributes.missing, "")
            true  attributes.count = "12"
            false attributes.count = "012"
            true  hasPrefix(attributes.count, "1")
            true  attributes.big = "9223372036854775807"
            true  attributes.negative = "-9223372036854775808"
            true  attributes.yes = "true"
            true  attributes.no = "false"
            true  attributes.at = "1700000000"
            true  attributes.twice = "first"
            false attributes.twice = "second"
        "#]],
    );
}

#[test]
fn what_has_no_text_is_only_there() {
    check_matches(
        r#"
        attributes:half AND attributes:nothing AND attributes:bytes AND attributes:list
        attributes.half = "0.5"
        attributes.nothing = ""
        attributes.bytes = "com"
        attributes.list = "com"
        hasPrefix(attributes.bytes, "")
        attributes.bytes != "com"
        "#,
        expect![[r#"
            true  attributes:half AND attributes:nothing AND attributes:bytes AND attributes:list
            false attributes.half = "0.5"
            false attributes.nothing = ""
            false attributes.bytes = "com"
            false attributes.list = "com"
            false hasPrefix(attributes.bytes, "")
            true  attributes.bytes != "com"
        "#]],
    );
}

#[test]
fn integers_are_compared_as_numbers() {
    check_matches(
        r#"
        attributes.count < 12
        attributes.count <= 12
        attributes.count > 11
        attributes.count >= 13
        attributes.big > 9223372036854775806
        attributes.negative < -1
        attributes.at > 1600000000
        attributes.name > 0
        attributes.half > 0
        attributes.yes > 0
        attributes.missing < 1
        NOT attributes.missing < 1
        "#,
        expect![[r#"
            false attributes.count < 12
            true  attributes.count <= 12
            true  attributes.count > 11
            false attributes.count >= 13
            true  attributes.big > 9223372036854775806
            true  attributes.negative < -1
            true  attributes.at > 1600000000
            false attributes.name > 0
            false attributes.half > 0
            false attributes.yes > 0
            false attributes.missing < 1
            true  NOT attributes.missing < 1
        "#]],
    );
}

#[test]
fn properties_have_their_names() {
    check_matches(
        r#"
        properties.content_type = "text/plain"
        properties:content_encoding
        properties.delivery_mode = "2"
        properties.priority >= 5 AND properties.priority < 8
        properties:correlation_id OR properties:reply_to OR properties:expiration OR properties:user_id
        properties.message_id = "m-1"
        properties.timestamp > 1600000000
        hasPrefix(properties.type, "or")
        properties.app_id != "shop"
        attributes:type OR attributes:priority
        "#,
        expect![[r#"
            true  properties.content_type = "text/plain"
            false properties:content_encoding
            true  properties.delivery_mode = "2"
            true  properties.priority >= 5 AND properties.priority < 8
            false properties:correlation_id OR properties:reply_to OR properties:expiration OR properties:user_id
            true  properties.message_id = "m-1"
            true  properties.timestamp > 1600000000
            true  hasPrefix(properties.type, "or")
            true  properties.app_id != "shop"
            false attributes:type OR attributes:priority
        "#]],
    );
}

#[test]
fn tests_are_joined_as_they_are_written() {
    check_matches(
        r#"
        attributes:name AND attributes:missing
        attributes:name OR attributes:missing
        attributes:missing OR attributes:missing OR attributes:name
        attributes:name AND (attributes:missing OR NOT attributes:missing)
        NOT (attributes:name AND attributes:missing)
        NOT attributes:name OR attributes:missing
        -(attributes:missing OR -(attributes:name AND -attributes:missing))
        "#,
        expect![[r#"
            false attributes:name AND attributes:missing
            true  attributes:name OR attributes:missing
            true  attributes:missing OR attributes:missing OR attributes:name
            true  attributes:name AND (attributes:missing OR NOT attributes:missing)
            true  NOT (attributes:name AND attributes:missing)
            false NOT attributes:name OR attributes:missing
            true  -(attributes:missing OR -(attributes:name AND -attributes:missing))
        "#]],
    );
}

#[test]
fn filters_with_the_same_meaning_on_paper_are_equal() {
    let parse = |text| Filter::parse(text).expect("a filter");
    assert_eq!(parse("attributes:a"), parse("( attributes:\"a\" )"));
    assert_ne!(parse("attributes:a"), parse("attributes:b"));
}

/// As many tests as fit, each of a header of its own, on a message with many long headers. One that walked the headers once
/// for each test would look at a hundred megabytes.
#[test]
fn the_largest_filter_stays_cheap_on_the_largest_headers() {
    let names: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').chain(['_', '-']).collect();
    let tests: Vec<String> = names.iter().map(|name| format!("attributes:{name}")).collect();
    let text = tests.join(" OR ");
    assert_eq!((text.len(), names.len()), (1020, 64));
    let filter = Filter::parse(&text).expect("64 tests fit");
    let mut headers = Vec::new();
    for number in 0..20_000 {
        let entry = FieldTable::new().with(&format!("other-{number}"), "x".repeat(100).as_str());
        headers.extend_from_slice(entry.as_table().as_bytes());
    }
    let check = |headers: &[u8], expected| {
        let headers = Some(Table::new(headers).expect("tables, one behind the other"));
        assert_eq!(filter.matches(&Properties { headers, ..Properties::EMPTY }), expected);
    };
    check(&headers, false);
    headers.extend_from_slice(FieldTable::new().with("-", 1i32).as_table().as_bytes());
    check(&headers, true);
}

/// A condition as a tree, whose text and truth are found the slow way.
#[derive(Clone, Debug)]
enum Tree {
    Has(String),
    Equals(String, String),
    Differs(String, String),
    Prefix(String, String),
    Less(String, i64),
    Not(Box<Tree>),
    All(Vec<Tree>),
    Any(Vec<Tree>),
}

impl Tree {
    fn text(&self) -> String {
        let join = |trees: &[Tree], joint| {
            trees.iter().map(|tree| format!("({})", tree.text())).collect::<Vec<_>>().join(joint)
        };
        match self {
            Tree::Has(name) => format!("attributes:{name:?}"),
            Tree::Equals(name, text) => format!("attributes.{name:?}=\"{}\"", escaped(text)),
            Tree::Differs(name, text) => format!("attributes.{name:?} != \"{}\"", escaped(text)),
            Tree::Prefix(name, text) => format!("hasPrefix(attributes.{name:?}, \"{}\")", escaped(text)),
            Tree::Less(name, number) => format!("attributes.{name:?} < {number}"),
            Tree::Not(tree) => format!("NOT ({})", tree.text()),
            Tree::All(trees) => join(trees, " AND "),
            Tree::Any(trees) => join(trees, " OR "),
        }
    }

    fn is_true_of(&self, headers: &FieldTable) -> bool {
        let text = |name: &str| match headers.get(name)? {
            Value::LongString(text) => Some(String::from_utf8_lossy(text).into_owned()),
            other => Some(other.as_i64()?.to_string()),
        };
        match self {
            Tree::Has(name) => headers.get(name).is_some(),
            Tree::Equals(name, wanted) => text(name).is_some_and(|text| text == *wanted),
            Tree::Differs(name, wanted) => text(name).is_none_or(|text| text != *wanted),
            Tree::Prefix(name, wanted) => text(name).is_some_and(|text| text.starts_with(wanted)),
            Tree::Less(name, number) => {
                headers.get(name).and_then(|value| value.as_i64()).is_some_and(|value| value < *number)
            }
            Tree::Not(tree) => !tree.is_true_of(headers),
            Tree::All(trees) => trees.iter().all(|tree| tree.is_true_of(headers)),
            Tree::Any(trees) => trees.iter().any(|tree| tree.is_true_of(headers)),
        }
    }
}

fn escaped(text: &str) -> String {
    text.chars().map(|character| format!("\\U{:08x}", u32::from(character))).collect()
}

fn trees() -> impl Strategy<Value = Tree> {
    let (name, text) = (|| "[abc]", || "[ab1\"\\\\\n\u{1}é]{0,2}");
    let leaf = prop_oneof![
        name().prop_map(Tree::Has),
        (name(), text()).prop_map(|(name, text)| Tree::Equals(name, text)),
        (name(), text()).prop_map(|(name, text)| Tree::Differs(name, text)),
        (name(), text()).prop_map(|(name, text)| Tree::Prefix(name, text)),
        (name(), -2..3i64).prop_map(|(name, number)| Tree::Less(name, number)),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|tree| Tree::Not(Box::new(tree))),
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Tree::All),
            proptest::collection::vec(inner, 1..4).prop_map(Tree::Any),
        ]
    })
}

fn random_headers() -> impl Strategy<Value = FieldTable> {
    let value = prop_oneof![
        "[ab1é]{0,2}".prop_map(|text| FieldTable::new().with("v", text.as_str())),
        (-3..4i32).prop_map(|number| FieldTable::new().with("v", number)),
    ];
    proptest::collection::btree_map("[abcd]", value, 0..5).prop_map(|entries| {
        let mut headers = FieldTable::new();
        for (name, value) in &entries {
            headers.insert(name, value.get("v").expect("put there"));
        }
        headers
    })
}

proptest! {
    #[test]
    fn agrees_with_the_definition_and_so_does_its_canonical_text(tree in trees(), headers in random_headers()) {
        let text = tree.text();
        prop_assume!(text.len() <= Filter::MAX_BYTES);
        let filter = Filter::parse(&text).expect("a filter");
        let properties = Properties { headers: Some(headers.as_table()), ..Properties::EMPTY };
        prop_assert_eq!(filter.matches(&properties), tree.is_true_of(&headers), "{} on {:?}", filter, headers);
        let again = Filter::parse(filter.as_str()).expect("the canonical text is a filter");
        prop_assert_eq!(&again, &filter);
        prop_assert_eq!(again.matches(&properties), filter.matches(&properties));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        let _ = Filter::parse(&text);
    }

    #[test]
    fn no_mixture_of_its_own_tokens_panics(tokens in proptest::collection::vec(prop_oneof![
        Just("attributes"), Just("properties"), Just(".type"), Just(":"), Just("."), Just("a"), Just("\"b\""), Just("\""),
        Just("\\"), Just("\\u30"), Just("é"), Just("="), Just("!="), Just("<"), Just("-1"), Just(" "), Just("AND "),
        Just("OR "), Just("NOT "), Just("("), Just(")"), Just("hasPrefix("), Just(","), Just("attributes:a "),
    ], 0..40)) {
        let text = tokens.concat();
        match Filter::parse(&text) {
            Ok(filter) => drop(filter.matches(&Properties::EMPTY)),
            Err(error) => prop_assert!(error.position <= text.len(), "{error}"),
        }
    }
}
