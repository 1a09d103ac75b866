//! Lists: filtered, sorted, cut into pages and columns, as RabbitMQ does.

use super::answer::{Answer, Refusal, ok};
use super::fields::{Columns, Fields};
use super::query::Query;
use regex::Regex;
use serde_json::{Number, Value, json};
use std::cmp::Ordering;

/// Items of a page, if the request does not say.
const PAGE_SIZE: u64 = 100;

/// The most items of a page.
const PAGE_SIZE_MAX: u64 = 500;

/// The most bytes of a pattern that names are searched with.
const PATTERN_MAX: usize = 1024;

/// Memory that a compiled pattern may take, in bytes.
const PATTERN_MEMORY: usize = 1 << 20;

/// How things are listed: `name` is what a page is filtered by, `fill` adds the fields of one.
pub struct List<T, F> {
    /// In RabbitMQ's order: by virtual host and name.
    pub items: Vec<T>,
    /// The name of one.
    pub name: fn(&T) -> &str,
    /// Adds the fields of one.
    pub fill: F,
}

impl<T, F: Fn(&T, &mut Fields<'_>)> List<T, F> {
    /// The list that a request asks for.
    ///
    /// # Errors
    /// 400 for pages that cannot be, in RabbitMQ's words.
    pub fn answer(mut self, query: &Query) -> Answer {
        let page = Page::of(query)?;
        let total = self.items.len();
        if let Some(filter) = page.as_ref().and_then(|page| page.filter.as_ref()) {
            self.items.retain(|item| filter.matches((self.name)(item)));
        }
        self.sort(query);
        let Some(page) = page else {
            return ok(&Value::Array(self.show(&self.items, query)));
        };
        let filtered = self.items.len();
        let items = self.show(page.cut(&self.items)?, query);
        ok(&json!({
            "filtered_count": filtered,
            "item_count": items.len(),
            "items": items,
            "page": page.number,
            "page_count": (filtered as u64).div_ceil(page.size),
            "page_size": page.size,
            "total_count": total,
        }))
    }

    /// All of it, sorted and with the columns that were asked for: some lists have no pages in RabbitMQ.
    pub fn answer_whole(mut self, query: &Query) -> Answer {
        self.sort(query);
        ok(&Value::Array(self.show(&self.items, query)))
    }

    fn show(&self, items: &[T], query: &Query) -> Vec<Value> {
        let columns = Columns::of(query);
        let show = |item: &T| {
            let mut fields = Fields::new(&columns);
            (self.fill)(item, &mut fields);
            fields.finish()
        };
        items.iter().map(show).collect()
    }

    fn sort(&mut self, query: &Query) {
        if let Some(path) = query.get("sort").filter(|path| !path.is_empty()) {
            let columns = Columns::only(path);
            let key = |item: &T| {
                let mut fields = Fields::new(&columns);
                (self.fill)(item, &mut fields);
                fields.into_value_at(path)
            };
            let keys: Vec<Value> = self.items.iter().map(key).collect();
            let mut keyed: Vec<(Value, T)> = keys.into_iter().zip(std::mem::take(&mut self.items)).collect();
            // Stable: what is equal stays in the order of names.
            keyed.sort_by(|(a, _), (b, _)| compare(a, b));
            self.items = keyed.into_iter().map(|(_, item)| item).collect();
        }
        if query.is_true("sort_reverse") {
            self.items.reverse();
        }
    }
}

/// Erlang's order: numbers, then words such as true, then texts.
fn compare(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Number(_) => 1,
        Value::Bool(_) => 2,
        Value::Object(_) => 3,
        Value::Array(_) => 4,
        Value::String(_) => 5,
    };
    let number = |number: &Number| number.as_f64().unwrap_or_default();
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => number(a).total_cmp(&number(b)),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

/// The page that a request asks for.
struct Page {
    number: u64,
    size: u64,
    filter: Option<Filter>,
}

/// Which names are on the pages.
enum Filter {
    /// In lower case.
    Part(String),
    Pattern(Regex),
}

impl Filter {
    fn matches(&self, name: &str) -> bool {
        match self {
            Filter::Part(part) => name.to_lowercase().contains(part.as_str()),
            Filter::Pattern(pattern) => pattern.is_match(name),
        }
    }
}

impl Page {
    fn of(query: &Query) -> Result<Option<Page>, Refusal> {
        let Some(number) = query.get("page") else { return Ok(None) };
        let unreadable = || Refusal::bad("Pagination parameters are invalid");
        let number: u64 = number.parse().map_err(|_| unreadable())?;
        let size = query.get("page_size").map(str::parse::<u64>).transpose().map_err(|_| unreadable())?;
        if number == 0 || size.is_some_and(|size| size == 0 || size > PAGE_SIZE_MAX) {
            let size = size.map_or("undefined".to_string(), |size| size.to_string());
            let reason = format!("Invalid pagination parameters: page number {number}, page size {size}");
            return Err(Refusal::bad_as("invalid_pagination_parameters", reason));
        }
        let filter = query.get("name").filter(|name| !name.is_empty());
        let filter = match filter {
            None => None,
            Some(pattern) if query.is_true("use_regex") => Some(Filter::Pattern(pattern_of(pattern)?)),
            Some(part) => Some(Filter::Part(part.to_lowercase())),
        };
        Ok(Some(Page { number, size: size.unwrap_or(PAGE_SIZE), filter }))
    }

    fn cut<'a, T>(&self, items: &'a [T]) -> Result<&'a [T], Refusal> {
        let begin = (self.number - 1).saturating_mul(self.size).min(items.len() as u64) as usize;
        if begin == items.len() && self.number > 1 {
            let (number, size, len) = (self.number, self.size, items.len());
            let reason = format!("Page out of range, page: {number} page size: {size}, len: {len}");
            return Err(Refusal::bad_as("page_out_of_range", reason));
        }
        let end = items.len().min(begin + self.size as usize);
        Ok(&items[begin..end])
    }
}

/// A pattern of names from a request, of bounded size.
///
/// # Errors
/// 400 that says what is wrong with it.
pub fn pattern_of(pattern: &str) -> Result<Regex, Refusal> {
    if pattern.len() > PATTERN_MAX {
        let reason = format!("name: a pattern has at most {PATTERN_MAX} bytes, and this has {}", pattern.len());
        return Err(Refusal::bad(reason));
    }
    let built = regex::RegexBuilder::new(pattern).size_limit(PATTERN_MEMORY).build();
    built.map_err(|error| Refusal::bad(format!("name: '{pattern}' is not a valid pattern: {error}")))
}
