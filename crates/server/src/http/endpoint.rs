//! What an endpoint is: how it is reached, who may use it, what it takes and gives. The router and the OpenAPI document
//! are both made of these.

use super::access::Who;
use super::answer::Answer;
use super::call::Call;
use axum::http::Method;

/// An endpoint of the API.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its method; GET answers HEAD as well.
    pub method: Method,
    /// Its path, with `{name}` where it varies.
    pub path: &'static str,
    /// Who may use it.
    pub who: Who,
    /// What it does.
    pub run: fn(&Call) -> Answer,
    /// What it is for, in a line.
    pub summary: &'static str,
    /// Parameters behind the question mark.
    pub query: Vec<Param>,
    /// Fields of the object in the body; of those with a `!` behind the name there must be one.
    pub body: &'static [Field],
    /// What a success gives.
    pub gives: Gives,
}

/// A parameter behind the question mark.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// What kind of value it has.
    pub kind: Kind,
    /// What it is for.
    pub about: &'static str,
}

/// A field of a body.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What kind of value it has.
    pub kind: Kind,
    /// It has to be there.
    pub needed: bool,
}

/// Kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// True or false.
    Flag,
    /// A whole number within bounds.
    Number(i64, i64),
    /// An object.
    Object,
    /// A list of texts, or one text with commas.
    Texts,
    /// A list of objects.
    Objects,
    /// Anything.
    Any,
}

/// What a success gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// 200 and an object.
    Object,
    /// 200 and a list of objects.
    List,
    /// 200 and a list, or a page of it if one is asked for.
    Pages,
    /// 201 or 204.
    Put,
    /// 201 with the place of what was made.
    Made,
    /// 204.
    Done,
    /// 204, or 200 and an object that says what has no effect.
    Imported,
    /// 200 and an object, or 503 and one.
    Health,
    /// 200 and events, for as long as the client listens.
    Events,
}

impl Endpoint {
    /// An endpoint without parameters.
    pub fn new(
        method: Method,
        path: &'static str,
        who: Who,
        run: fn(&Call) -> Answer,
        gives: Gives,
        summary: &'static str,
    ) -> Endpoint {
        Endpoint { method, path, who, run, summary, query: Vec::new(), body: &[], gives }
    }

    /// With more parameters behind the question mark.
    pub fn query(mut self, params: &[Param]) -> Endpoint {
        self.query.extend_from_slice(params);
        self
    }

    /// With a body.
    pub fn body(mut self, fields: &'static [Field]) -> Endpoint {
        self.body = fields;
        self
    }
}

/// A parameter.
pub const fn param(name: &'static str, kind: Kind, about: &'static str) -> Param {
    Param { name, kind, about }
}

/// A field that has to be there.
pub const fn need(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, needed: true }
}

/// A field that may be there.
pub const fn may(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, needed: false }
}

/// Sorting and columns.
pub const SORTED: &[Param] = &[
    param("sort", Kind::Text, "field to sort by; dots lead into objects"),
    param("sort_reverse", Kind::Flag, "the other way round"),
    param("columns", Kind::Text, "fields to answer, with commas; dots lead into objects"),
];

/// Pages.
pub const PAGED: &[Param] = &[
    param("page", Kind::Number(1, i64::MAX), "number of the page; without it all are answered"),
    param("page_size", Kind::Number(1, 500), "items of a page"),
    param("name", Kind::Text, "part of the name, or a pattern; only with a page"),
    param("use_regex", Kind::Flag, "name is a regular expression"),
];

/// Samples of the past.
pub const SAMPLED: &[Param] = &[
    param("lengths_age", Kind::Number(1, 86_400), "seconds back of samples of lengths"),
    param("lengths_incr", Kind::Number(1, 86_400), "seconds between samples of lengths"),
    param("msg_rates_age", Kind::Number(1, 86_400), "seconds back of samples of counters"),
    param("msg_rates_incr", Kind::Number(1, 86_400), "seconds between samples of counters"),
];
