//! Entries: small durable values by table and key, for what is kept beside topology.

use crate::error::{Error, Result};
use crate::limits::Limits;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A table's name, and a key, have at most so many bytes.
pub(crate) const MAX_NAME: usize = 1024;

/// Values by key.
type Table = BTreeMap<Arc<str>, Arc<[u8]>>;

/// Values by table and key.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// No table is empty.
    tables: BTreeMap<Arc<str>, Table>,
    count: usize,
    /// Of keys and values.
    bytes: usize,
}

impl Entries {
    /// 406 if an entry would be too much, or too large.
    pub(crate) fn check(&self, table: &str, key: &str, value: Option<&[u8]>, limits: &Limits) -> Result<()> {
        if table.len() > MAX_NAME || key.len() > MAX_NAME {
            let text = format!("the name of an entry's table, and its key, may have {MAX_NAME} bytes at most");
            return Err(Error::precondition(text));
        }
        let Some(value) = value else { return Ok(()) };
        if value.len() > limits.max_entry_size {
            let max = limits.max_entry_size;
            let text =
                format!("an entry of {} bytes is larger than the broker's limit max_entry_size, {max}", value.len());
            return Err(Error::precondition(text));
        }
        let old = self.get(table, key).map(|old| key.len() + old.len());
        if old.is_none() && self.count >= limits.max_entries {
            return Err(Error::limit("entries", "max_entries", limits.max_entries as u64));
        }
        match self.bytes - old.unwrap_or(0) + key.len() + value.len() > limits.max_entries_bytes {
            true => Err(Error::limit("bytes in entries", "max_entries_bytes", limits.max_entries_bytes as u64)),
            false => Ok(()),
        }
    }

    /// Sets an entry, or without a value removes it.
    pub(crate) fn set(&mut self, table: &str, key: &str, value: Option<Arc<[u8]>>) {
        let added = value.as_ref().map(|value| key.len() + value.len());
        let old = match value {
            Some(value) => {
                if !self.tables.contains_key(table) {
                    self.tables.insert(table.into(), BTreeMap::new());
                }
                let keys = self.tables.get_mut(table);
                keys.and_then(|keys| keys.insert(key.into(), value))
            }
            None => {
                let Some(keys) = self.tables.get_mut(table) else { return };
                let old = keys.remove(key);
                if keys.is_empty() {
                    self.tables.remove(table);
                }
                old
            }
        };
        self.count = self.count + usize::from(added.is_some()) - usize::from(old.is_some());
        self.bytes = self.bytes + added.unwrap_or(0) - old.map_or(0, |old| key.len() + old.len());
    }

    pub(crate) fn len(&self) -> u64 {
        self.count as u64
    }

    pub(crate) fn get(&self, table: &str, key: &str) -> Option<&Arc<[u8]>> {
        self.tables.get(table)?.get(key)
    }

    /// Those of a table, by key.
    pub(crate) fn of(&self, table: &str) -> impl Iterator<Item = (&Arc<str>, &Arc<[u8]>)> {
        self.tables.get(table).into_iter().flatten()
    }

    /// All of them: table, key and value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str, &[u8])> {
        self.tables.iter().flat_map(|(table, keys)| keys.iter().map(move |(key, value)| (&**table, &**key, &**value)))
    }

    /// Removes the entries that end with a virtual host.
    pub(crate) fn forget_vhost(&mut self, vhost: &str) {
        let of_it = |table: &Arc<str>| vhost_of(table) == Some(vhost);
        let gone: Vec<Arc<str>> = self.tables.keys().filter(|table| of_it(table)).cloned().collect();
        for table in gone {
            let keys = self.tables.remove(&table).unwrap_or_default();
            self.count -= keys.len();
            self.bytes -= keys.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        }
    }
}

/// The virtual host with which a table's entries end: what is behind the first colon of its name.
pub(crate) fn vhost_of(table: &str) -> Option<&str> {
    table.split_once(':').map(|(_, vhost)| vhost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Entries {
        let mut entries = Entries::default();
        for (table, key, value) in
            [("user", "a", "1"), ("policy:/", "p", "22"), ("policy:a:b", "p", "3"), ("x:b", "", "")]
        {
            entries.set(table, key, Some(Arc::from(value.as_bytes())));
        }
        entries
    }

    #[test]
    fn a_virtual_host_takes_its_entries_with_it_and_no_others() {
        let mut entries = filled();
        entries.forget_vhost("b");
        let left: Vec<_> = entries.iter().map(|(table, key, _)| format!("{table} {key}")).collect();
        assert_eq!(left, ["policy:/ p", "policy:a:b p", "user a"]);
        entries.forget_vhost("/");
        entries.forget_vhost("a:b");
        entries.set("user", "a", None);
        assert_eq!((entries.count, entries.bytes, entries.tables.len()), (0, 0, 0));
    }

    #[test]
    fn what_is_too_much_is_refused_and_names_its_limit() {
        let limits = Limits { max_entries: 4, max_entry_size: 3, max_entries_bytes: 9, ..Limits::default() };
        let entries = filled();
        let check = |table: &str, key: &str, value: Option<&[u8]>| {
            entries.check(table, key, value, &limits).err().map(|error| error.text)
        };
        assert_eq!(check("user", "a", Some(b"123")), None);
        let too_large = "an entry of 4 bytes is larger than the broker's limit max_entry_size, 3";
        assert_eq!(check("user", "a", Some(b"1234")).as_deref(), Some(too_large));
        let too_many = "cannot have more than 4 entries; the broker's limit is max_entries";
        assert_eq!(check("user", "b", Some(b"")).as_deref(), Some(too_many));
        let too_long = "cannot have more than 9 bytes in entries; the broker's limit is max_entries_bytes";
        assert_eq!(check("x:b", "", Some(b"123")).as_deref(), Some(too_long));
        assert!(check(&"t".repeat(1025), "", None).is_some() && check("", &"k".repeat(1025), None).is_some());
        assert_eq!(check("nobody", "knows", None), None);
    }
}
