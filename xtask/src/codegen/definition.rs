//! The protocol's definition, as far as code is made of it.

use anyhow::{Context as _, Result, bail};

pub struct Definition {
    pub classes: Vec<Class>,
    pub reply_codes: Vec<(String, u16)>,
}

pub struct Class {
    pub name: String,
    pub id: u16,
    pub methods: Vec<Method>,
}

pub struct Method {
    /// `basic.recover-async`
    pub name: String,
    /// `BasicRecoverAsync`
    pub variant: String,
    /// `RecoverAsync`
    pub type_name: String,
    pub class_id: u16,
    pub id: u16,
    pub to_server: bool,
    pub to_client: bool,
    pub has_content: bool,
    pub fields: Vec<Field>,
}

pub struct Field {
    /// As in the definition, with dashes.
    pub name: String,
    pub domain: String,
    pub kind: Kind,
    pub reserved: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Bit,
    Octet,
    Short,
    Long,
    LongLong,
    ShortStr,
    LongStr,
    Table,
}

impl Definition {
    pub fn parse(xml: &str) -> Result<Self> {
        let document = roxmltree::Document::parse(xml)?;
        let root = document.root_element();
        let elements = |name: &'static str| root.children().filter(move |node| node.has_tag_name(name));
        let mut domains = Vec::new();
        for node in elements("domain") {
            domains.push((attribute(node, "name")?, Kind::parse(attribute(node, "type")?)?));
        }
        let mut reply_codes = Vec::new();
        for node in elements("constant") {
            let name = attribute(node, "name")?;
            // The frame-... constants are few and have their own place in crates/wire/src/frame.rs.
            if node.has_attribute("class") || name == "reply-success" {
                reply_codes.push((name.to_owned(), attribute(node, "value")?.parse()?));
            }
        }
        let classes = elements("class").map(|node| Class::parse(node, &domains)).collect::<Result<_>>()?;
        Ok(Self { classes, reply_codes })
    }

    pub fn methods(&self) -> impl Iterator<Item = (&Class, &Method)> {
        self.classes.iter().flat_map(|class| class.methods.iter().map(move |method| (class, method)))
    }
}

impl Class {
    fn parse(node: roxmltree::Node<'_, '_>, domains: &[(&str, Kind)]) -> Result<Self> {
        let (name, id) = (attribute(node, "name")?, attribute(node, "index")?.parse()?);
        let methods = node
            .children()
            .filter(|child| child.has_tag_name("method"))
            .map(|child| Method::parse(child, name, id, domains).with_context(|| format!("class {name}")))
            .collect::<Result<_>>()?;
        Ok(Self { name: name.to_owned(), id, methods })
    }
}

impl Method {
    fn parse(node: roxmltree::Node<'_, '_>, class: &str, class_id: u16, domains: &[(&str, Kind)]) -> Result<Self> {
        let name = attribute(node, "name")?;
        let implemented_by = |peer: &str| {
            node.children().any(|child| child.has_tag_name("chassis") && child.attribute("name") == Some(peer))
        };
        let fields = node
            .children()
            .filter(|child| child.has_tag_name("field"))
            .map(|child| Field::parse(child, domains).with_context(|| format!("method {name}")))
            .collect::<Result<_>>()?;
        Ok(Self {
            name: format!("{class}.{name}"),
            variant: camel_case(class) + &camel_case(name),
            type_name: camel_case(name),
            class_id,
            id: attribute(node, "index")?.parse()?,
            to_server: implemented_by("server"),
            to_client: implemented_by("client"),
            has_content: node.attribute("content") == Some("1"),
            fields,
        })
    }

    pub fn visible(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| !field.reserved)
    }

    pub fn borrows(&self) -> bool {
        self.visible().any(|field| matches!(field.kind, Kind::ShortStr | Kind::LongStr | Kind::Table))
    }

    pub fn full_type(&self, lifetime: &str) -> String {
        if self.borrows() { format!("{}<{lifetime}>", self.type_name) } else { self.type_name.clone() }
    }
}

impl Field {
    fn parse(node: roxmltree::Node<'_, '_>, domains: &[(&str, Kind)]) -> Result<Self> {
        let name = attribute(node, "name")?;
        let domain = node.attribute("domain").or(node.attribute("type"));
        let domain = domain.with_context(|| format!("field {name} has neither domain nor type"))?;
        let kind = domains.iter().find(|(name, _)| *name == domain);
        let (_, kind) = kind.with_context(|| format!("field {name}: no domain {domain}"))?;
        let reserved = node.attribute("reserved") == Some("1");
        Ok(Self { name: name.to_owned(), domain: domain.to_owned(), kind: *kind, reserved })
    }

    pub fn ident(&self) -> String {
        match self.name.as_str() {
            "type" => "r#type".to_owned(),
            name => name.replace('-', "_"),
        }
    }

    /// The definition has no prose; the domain says what a name alone doesn't.
    pub fn doc(&self) -> String {
        let kind = self.kind.description();
        if Kind::parse(&self.domain).is_ok() { format!("A {kind}.") } else { format!("`{}`: a {kind}.", self.domain) }
    }
}

impl Kind {
    fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "bit" => Self::Bit,
            "octet" => Self::Octet,
            "short" => Self::Short,
            "long" => Self::Long,
            "longlong" | "timestamp" => Self::LongLong,
            "shortstr" => Self::ShortStr,
            "longstr" => Self::LongStr,
            "table" => Self::Table,
            _ => bail!("unknown elementary type {name}"),
        })
    }

    pub fn rust_type(self) -> &'static str {
        match self {
            Self::Bit => "bool",
            Self::Octet => "u8",
            Self::Short => "u16",
            Self::Long => "u32",
            Self::LongLong => "u64",
            Self::ShortStr => "&'a str",
            Self::LongStr => "&'a [u8]",
            Self::Table => "Table<'a>",
        }
    }

    pub fn description(self) -> &'static str {
        match self {
            Self::Bit => "bit",
            Self::Octet => "number of 8 bits",
            Self::Short => "number of 16 bits",
            Self::Long => "number of 32 bits",
            Self::LongLong => "number of 64 bits",
            Self::ShortStr => "short string, at most 255 octets",
            Self::LongStr => "long string, any octets",
            Self::Table => "field table",
        }
    }

    /// The method of the tests' `Fields`.
    pub fn source(self) -> &'static str {
        match self {
            Self::Bit => "bit",
            _ => self.codec().1,
        }
    }

    /// The octets without content, and the method of `Reader`.
    pub fn codec(self) -> (usize, &'static str) {
        match self {
            Self::Bit | Self::Octet => (1, "u8"),
            Self::Short => (2, "u16"),
            Self::Long => (4, "u32"),
            Self::LongLong => (8, "u64"),
            Self::ShortStr => (1, "short_str"),
            Self::LongStr => (4, "long_bytes"),
            Self::Table => (4, "table"),
        }
    }
}

fn attribute<'a>(node: roxmltree::Node<'a, '_>, name: &str) -> Result<&'a str> {
    node.attribute(name).with_context(|| format!("<{}> has no attribute {name}", node.tag_name().name()))
}

/// `recover-async` to `RecoverAsync`.
fn camel_case(name: &str) -> String {
    let mut out = String::new();
    for word in name.split('-') {
        out.extend(word.chars().next().map(|c| c.to_ascii_uppercase()));
        out.extend(word.chars().skip(1));
    }
    out
}
