//! The module of one class: a struct for each method, with the functions that read and write it.

use std::fmt::Write as _;

use super::{
    HEADER,
    definition::{Class, Field, Kind, Method},
};

/// Fields that never appear in what `Debug` prints, and so in no log.
const SECRETS: [(&str, &str); 3] = [
    ("connection.start-ok", "response"),
    ("connection.secure-ok", "response"),
    ("connection.update-secret", "new-secret"),
];

impl Class {
    /// The whole file.
    pub fn code(&self) -> String {
        let mut code = String::from(HEADER);
        let _ = writeln!(code, "//! Class `{}` ({}).\n", self.name, self.id);
        code += &self.imports();
        for method in &self.methods {
            code += &method.code();
        }
        code
    }

    fn imports(&self) -> String {
        let fields = || self.methods.iter().flat_map(|method| &method.fields);
        let has = |kind| fields().any(|field| field.kind == kind && !field.reserved);
        let mut code = String::from("use crate::{Error, codec::{Reader");
        if has(Kind::LongStr) || has(Kind::Table) {
            code += ", put_long_bytes";
        }
        if has(Kind::ShortStr) {
            code += ", put_short_str";
        }
        code += "}";
        if has(Kind::Table) {
            code += ", table::Table";
        }
        code += "};\n\n";
        code
    }
}

impl Method {
    fn code(&self) -> String {
        let sender = match (self.to_server, self.to_client) {
            (true, true) => "sent by client and server",
            (true, false) => "sent by the client",
            (false, _) => "sent by the server",
        };
        let content = if self.has_content { ", followed by content" } else { "" };
        let secret = self.visible().find(|field| SECRETS.contains(&(&self.name, &field.name)));
        let debug = if secret.is_some() { "" } else { "Debug, " };
        let mut code = format!(
            "/// `{}` ({}, {}), {sender}{content}.\n#[derive(Clone, Copy, {debug}Default, PartialEq, Eq)]\npub struct {}",
            self.name,
            self.class_id,
            self.id,
            self.full_type("'a")
        );
        if self.visible().next().is_none() {
            code += ";\n\n";
        } else {
            code += " {\n";
            for field in self.visible() {
                let _ = writeln!(code, "/// {}\npub {}: {},", field.doc(), field.ident(), field.kind.rust_type());
            }
            code += "}\n\n";
        }
        let (generics, target) = match self.borrows() {
            true => ("<'a>", self.full_type("'a")),
            false => ("", self.full_type("")),
        };
        let _ = writeln!(
            code,
            "impl{generics} {target} {{\n/// Class id and method id.\npub const ID: (u16, u16) = ({}, {});\n",
            self.class_id, self.id
        );
        code += &self.read();
        code += &self.write();
        code += "}\n\n";
        if let Some(secret) = secret {
            code += &self.redacted_debug(secret);
        }
        code
    }

    fn read(&self) -> String {
        let input = if self.borrows() { "&mut Reader<'a>" } else { "&mut Reader<'_>" };
        let unused = if self.fields.is_empty() { "_" } else { "" };
        let mut code = format!("#[inline]\npub(super) fn read({unused}input: {input}) -> Result<Self, Error> {{\n");
        let mut bits = 0;
        for field in &self.fields {
            if field.kind != Kind::Bit {
                bits = 0;
                let (_, read) = field.kind.codec();
                match (field.reserved, field.kind) {
                    (true, Kind::ShortStr) => code += "input.short_bytes()?;\n",
                    (true, Kind::LongStr) => code += "input.long_bytes()?;\n",
                    (true, _) => drop(writeln!(code, "input.{read}()?;")),
                    (false, _) => drop(writeln!(code, "let {} = input.{read}()?;", field.ident())),
                }
                continue;
            }
            if bits == 0 {
                // No method has more than one run of bits, so one name is enough.
                let bound = if field.reserved { "" } else { "let bits = " };
                let _ = writeln!(code, "{bound}input.u8()?;");
            }
            if !field.reserved {
                let _ = writeln!(code, "let {} = bits & {} != 0;", field.ident(), 1 << bits);
            }
            bits += 1;
        }
        if self.visible().next().is_none() {
            code + "Ok(Self)\n}\n\n"
        } else {
            let names: Vec<_> = self.visible().map(Field::ident).collect();
            code + &format!("Ok(Self {{ {} }})\n}}\n\n", names.join(", "))
        }
    }

    fn write(&self) -> String {
        let mut code = String::from(
            "/// Appends class id, method id and arguments.\n#[inline]\npub fn encode(&self, out: &mut Vec<u8>) {\n",
        );
        // The end octet of the frame is reserved as well: it always follows.
        let mut fixed = 5;
        let mut sizes = String::new();
        let mut body = String::new();
        let mut fields = self.fields.iter().peekable();
        let [c0, c1] = self.class_id.to_be_bytes();
        let [m0, m1] = self.id.to_be_bytes();
        let mut zeroes = vec![c0, c1, m0, m1];
        let flush = |zeroes: &mut Vec<u8>, body: &mut String| {
            if !zeroes.is_empty() {
                let _ = writeln!(body, "out.extend_from_slice(&{zeroes:?});");
                zeroes.clear();
            }
        };
        while let Some(field) = fields.next() {
            let (octets, _) = field.kind.codec();
            fixed += octets;
            if field.reserved {
                // Zero is also the length of an empty string, so reserved fields are so many zeroes.
                zeroes.resize(zeroes.len() + octets, 0);
                continue;
            }
            flush(&mut zeroes, &mut body);
            let ident = format!("self.{}", field.ident());
            match field.kind {
                Kind::Bit => {
                    let mut bits = format!("u8::from({ident})");
                    let mut shift = 0;
                    while let Some(next) = fields.next_if(|next| next.kind == Kind::Bit) {
                        shift += 1;
                        let _ = write!(bits, " | u8::from(self.{}) << {shift}", next.ident());
                    }
                    let _ = writeln!(body, "out.push({bits});");
                }
                Kind::Octet => drop(writeln!(body, "out.push({ident});")),
                Kind::ShortStr => {
                    let _ = write!(sizes, " + {ident}.len()");
                    let _ = writeln!(body, "put_short_str(out, {ident});");
                }
                Kind::LongStr => {
                    let _ = write!(sizes, " + {ident}.len()");
                    let _ = writeln!(body, "put_long_bytes(out, {ident});");
                }
                Kind::Table => {
                    let _ = write!(sizes, " + {ident}.byte_len()");
                    let _ = writeln!(body, "put_long_bytes(out, {ident}.as_bytes());");
                }
                _ => drop(writeln!(body, "out.extend_from_slice(&{ident}.to_be_bytes());")),
            }
        }
        flush(&mut zeroes, &mut body);
        let _ = writeln!(code, "out.reserve({fixed}{sizes});");
        code + &body + "}\n"
    }

    fn redacted_debug(&self, secret: &Field) -> String {
        let mut code = format!(
            "/// Without the value of `{}`, which is a credential.\nimpl std::fmt::Debug for {} {{\n\
             fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{\nf.debug_struct({:?})\n",
            secret.name,
            self.full_type("'_"),
            self.type_name
        );
        for field in self.visible() {
            let value =
                if field.name == secret.name { "&\"[redacted]\"".into() } else { format!("&self.{}", field.ident()) };
            let _ = writeln!(code, ".field({:?}, {value})", field.name.replace('-', "_"));
        }
        code + ".finish()\n}\n}\n\n"
    }
}
