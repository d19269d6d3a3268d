//! Works out what a schema means: types, the versions in which each structure can occur, defaults, fewest bytes.
//!
//! Invariants of what it yields: every field exists in at least one version of its structure; every structure named by
//! a field is in the message; tagged fields exist only in flexible versions and stand in the order of their tags; no
//! structure contains itself; no array element can be encoded in zero bytes.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};

use super::names;
use super::schema::{self, Kind, Schema};
use super::versions::Versions;

/// A message with everything the renderers need.
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) versions: Versions,
    /// The first flexible version, which may lie beyond `versions`.
    pub(crate) flexible: Option<Versions>,
    /// The message itself first, then its structures in the order of their first use.
    pub(crate) structs: Vec<Struct>,
}

/// The message itself, or a structure in it.
pub(crate) struct Struct {
    pub(crate) name: String,
    /// The wire name of the field that first uses it; empty for the message itself.
    pub(crate) used_by: String,
    /// The versions in which it can occur.
    pub(crate) scope: Versions,
    pub(crate) fields: Vec<Field>,
    /// Whether it holds strings or bytes, and so has a lifetime.
    pub(crate) is_borrowing: bool,
    /// Whether some array has it as its element.
    pub(crate) is_element: bool,
    /// Whether `Eq` holds: no floating point inside.
    pub(crate) is_eq: bool,
    /// The fewest bytes it takes, by version; covers `scope` without gaps.
    pub(crate) bytes_min: Vec<(Versions, usize)>,
}

/// One field.
pub(crate) struct Field {
    pub(crate) wire_name: String,
    pub(crate) name: String,
    pub(crate) kind: Type,
    /// The versions in which it exists, within the scope of its structure.
    pub(crate) versions: Versions,
    /// The versions in which it may be null, within `versions`.
    pub(crate) nullable: Option<Versions>,
    pub(crate) tag: Option<u32>,
    /// The default as a Rust expression.
    pub(crate) default: String,
    pub(crate) is_ignorable: bool,
    /// Whether it keeps the classic layout in flexible versions.
    pub(crate) is_always_classic: bool,
}

/// A field's type, without its nullability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// Wire name, Rust name and bytes of a type of fixed size.
    Fixed(&'static str, &'static str, usize),
    Text,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

const FIXED: &[(&str, &str, usize)] = &[
    ("bool", "bool", 1),
    ("int8", "i8", 1),
    ("int16", "i16", 2),
    ("uint16", "u16", 2),
    ("int32", "i32", 4),
    ("uint32", "u32", 4),
    ("int64", "i64", 8),
    ("float64", "f64", 8),
    ("uuid", "Uuid", 16),
];

impl Message {
    /// Resolves one schema.
    pub(crate) fn resolve(schema: &Schema) -> anyhow::Result<Self> {
        let versions = Versions::parse(&schema.valid_versions)?.context("the message has no version")?;
        let flexible = Versions::parse(&schema.flexible_versions)?;
        let mut resolver = Resolver { flexible, definitions: BTreeMap::new(), structs: Vec::new() };
        for common in &schema.common_structs {
            resolver.define(&common.name, &common.fields)?;
        }
        resolver.define(&schema.name, &schema.fields)?;
        resolver.define_nested(&schema.fields)?;
        for common in &schema.common_structs {
            resolver.define_nested(&common.fields)?;
        }
        resolver.visit(&schema.name, "", versions, 0)?;
        let Resolver { mut structs, .. } = resolver;
        complete(&mut structs, flexible)?;
        Ok(Self { kind: schema.kind, name: schema.name.clone(), versions, flexible, structs })
    }

    /// Renames a structure and every mention of it.
    pub(crate) fn rename_struct(&mut self, from: &str, to: &str) {
        for one in &mut self.structs {
            if one.name == from {
                to.clone_into(&mut one.name);
            }
            for field in &mut one.fields {
                field.kind.rename_struct(from, to);
                field.default = field.default.replace(&format!("{from}::default()"), &format!("{to}::default()"));
            }
        }
    }

    /// Whether the structure called `name` has a lifetime.
    pub(crate) fn is_borrowing(&self, name: &str) -> bool {
        self.structs.iter().any(|one| one.name == name && one.is_borrowing)
    }
}

impl Struct {
    /// The fewest bytes it takes in any version.
    pub(crate) fn bytes_min_of_all(&self) -> usize {
        self.bytes_min.iter().map(|(_, bytes)| *bytes).min().unwrap_or_default()
    }
}

impl Field {
    /// Whether its Rust type is an `Option`.
    pub(crate) fn is_option(&self) -> bool {
        self.nullable.is_some()
    }

    /// Whether its default is what `#[derive(Default)]` gives.
    pub(crate) fn is_default_derivable(&self) -> bool {
        let is_derived = match self.default.as_str() {
            "false" | "0" | "0.0" | "\"\"" | "&[]" | "Vec::new()" | "Uuid::ZERO" | "None" => true,
            other => other.ends_with("::default()"),
        };
        is_derived && (self.default == "None" || !self.is_option())
    }
}

impl Type {
    fn parse(name: &str) -> Self {
        if let Some(element) = name.strip_prefix("[]") {
            return Self::Array(Box::new(Self::parse(element)));
        }
        if let Some((wire, rust, bytes)) = FIXED.iter().find(|fixed| fixed.0 == name) {
            return Self::Fixed(wire, rust, *bytes);
        }
        match name {
            "string" => Self::Text,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            _ => Self::Struct(name.to_owned()),
        }
    }

    /// The structure that this type is or has as its element.
    pub(crate) fn structure(&self) -> Option<&str> {
        match self {
            Self::Struct(name) => Some(name),
            Self::Array(element) => element.structure(),
            Self::Fixed(..) | Self::Text | Self::Bytes | Self::Records => None,
        }
    }

    fn rename_struct(&mut self, from: &str, to: &str) {
        match self {
            Self::Struct(name) if name == from => to.clone_into(name),
            Self::Array(element) => element.rename_struct(from, to),
            Self::Struct(_) | Self::Fixed(..) | Self::Text | Self::Bytes | Self::Records => {}
        }
    }

    /// Whether it holds strings or bytes itself, not through a structure.
    fn is_borrowing(&self) -> bool {
        match self {
            Self::Text | Self::Bytes | Self::Records => true,
            Self::Array(element) => element.is_borrowing(),
            Self::Fixed(..) | Self::Struct(_) => false,
        }
    }
}

struct Resolver<'a> {
    flexible: Option<Versions>,
    definitions: BTreeMap<&'a str, &'a [schema::Field]>,
    structs: Vec<Struct>,
}

impl<'a> Resolver<'a> {
    fn define(&mut self, name: &'a str, fields: &'a [schema::Field]) -> anyhow::Result<()> {
        ensure!(self.definitions.insert(name, fields).is_none(), "structure {name} is defined twice");
        Ok(())
    }

    /// Collects the structures that are written out in the fields that use them.
    fn define_nested(&mut self, fields: &'a [schema::Field]) -> anyhow::Result<()> {
        for field in fields.iter().filter(|field| !field.fields.is_empty()) {
            self.define(field.type_name.trim_start_matches("[]"), &field.fields)?;
            self.define_nested(&field.fields)?;
        }
        Ok(())
    }

    /// Resolves a structure and all below it. A second use widens the scope of the first, and is resolved again.
    fn visit(&mut self, name: &str, used_by: &str, scope: Versions, depth: usize) -> anyhow::Result<()> {
        ensure!(depth < DEPTH_MAX, "structure {name} contains itself");
        let fields = *self.definitions.get(name).with_context(|| format!("structure {name} has no definition"))?;
        let known = self.structs.iter().position(|one| one.name == name);
        let scope = known.map_or(scope, |index| scope.hull(self.structs[index].scope));
        let mut resolved = Vec::new();
        for field in fields {
            resolved.extend(self.field(field, scope).with_context(|| format!("field {}", field.name))?);
        }
        // Tagged fields are written in the order of their tags, after all others.
        resolved.sort_by_key(|field| field.tag.map_or(0, |tag| tag + 1));

        let nested: Vec<_> = resolved
            .iter()
            .filter_map(|field| Some((field.kind.structure()?.to_owned(), field.wire_name.clone(), field.versions)))
            .collect();
        match known {
            Some(index) => {
                self.structs[index].scope = scope;
                self.structs[index].fields = resolved;
            }
            None => self.structs.push(Struct {
                name: name.to_owned(),
                used_by: used_by.to_owned(),
                scope,
                fields: resolved,
                is_borrowing: false,
                is_element: false,
                is_eq: true,
                bytes_min: Vec::new(),
            }),
        }
        for (structure, field, versions) in nested {
            self.visit(&structure, &field, versions, depth + 1)?;
        }
        Ok(())
    }

    /// One field, or nothing if it exists in no version of the scope.
    fn field(&self, field: &schema::Field, scope: Versions) -> anyhow::Result<Option<Field>> {
        let Some(declared) = Versions::parse(&field.versions)? else { return Ok(None) };
        let Some(versions) = declared.intersect(scope) else { return Ok(None) };
        let kind = Type::parse(&field.type_name);
        let nullable = field.nullable_versions.as_deref().map(Versions::parse).transpose()?.flatten();
        let nullable = nullable.and_then(|nullable| nullable.intersect(versions));

        let tagged = field.tagged_versions.as_deref().map(Versions::parse).transpose()?.flatten();
        ensure!(tagged.is_some() == field.tag.is_some(), "a tag and its versions must come together");
        if let Some(tagged) = tagged {
            ensure!(tagged == declared, "a field that is tagged in only some of its versions is not supported");
            let is_flexible = self.flexible.is_some_and(|flexible| flexible.intersect(versions) == Some(versions));
            ensure!(is_flexible, "tagged in a version that is not flexible");
        }
        let is_always_classic = match field.flexible_versions.as_deref() {
            None => false,
            Some("none") => true,
            Some(other) => bail!("flexible versions {other:?} of a single field are not supported"),
        };
        Ok(Some(Field {
            wire_name: field.name.clone(),
            name: names::field(&field.name),
            default: default_expression(&kind, nullable.is_some(), field.default.as_ref())?,
            kind,
            versions,
            nullable,
            tag: field.tag,
            is_ignorable: field.ignorable,
            is_always_classic,
        }))
    }
}

/// The default of a field as Kafka gives it: what the schema says, else zero, empty, or null for records.
fn default_expression(kind: &Type, is_nullable: bool, value: Option<&serde_json::Value>) -> anyhow::Result<String> {
    let text = match value {
        None => None,
        Some(serde_json::Value::String(text)) => Some(text.clone()),
        Some(value @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_))) => Some(value.to_string()),
        Some(other) => bail!("default {other} has an unknown form"),
    };
    if text.as_deref() == Some("null") || (is_nullable && *kind == Type::Records) {
        // A default of null may come with versions that allow none, which lie outside the valid ones.
        ensure!(is_nullable, "null is the default of a field that may not be null");
        return Ok("None".to_owned());
    }
    let expression = match (kind, text) {
        (Type::Fixed("bool", ..), text) => text.unwrap_or_else(|| "false".to_owned()),
        (Type::Fixed("float64", ..), None) => "0.0".to_owned(),
        (Type::Fixed("uuid", ..), None) => "Uuid::ZERO".to_owned(),
        (Type::Fixed("float64" | "uuid", ..), Some(text)) => bail!("default {text:?} is not supported"),
        (Type::Fixed(_, rust, bytes), text) => integer_literal(text.as_deref().unwrap_or("0"), rust, *bytes)?,
        (Type::Text, text) => format!("{:?}", text.unwrap_or_default()),
        (Type::Bytes | Type::Records, None) => "&[]".to_owned(),
        (Type::Array(_), None) => "Vec::new()".to_owned(),
        (Type::Struct(name), None) => format!("{name}::default()"),
        (kind, Some(text)) => bail!("default {text:?} of a {kind:?} is not supported"),
    };
    Ok(if is_nullable { format!("Some({expression})") } else { expression })
}

/// An integer in the way a person would write it in Rust.
fn integer_literal(text: &str, rust: &str, bytes: usize) -> anyhow::Result<String> {
    let value: i128 = match text.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16)?,
        None => text.parse()?,
    };
    let bits = u32::try_from(bytes * 8)?;
    let signed_max = (1_i128 << (bits - 1)) - 1;
    if rust.starts_with('i') && value == signed_max {
        return Ok(format!("{rust}::MAX"));
    }
    if rust.starts_with('i') && value == -signed_max - 1 {
        return Ok(format!("{rust}::MIN"));
    }
    let digits = value.unsigned_abs().to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && digits.len() > 4 {
            grouped.push('_');
        }
        grouped.push(digit);
    }
    Ok(if value < 0 { format!("-{grouped}") } else { grouped })
}

/// Fills in what depends on the structures below: lifetimes, `Eq`, elements, fewest bytes.
fn complete(structs: &mut [Struct], flexible: Option<Versions>) -> anyhow::Result<()> {
    // A structure comes before those it holds, except where a later user widened it; repeating settles all.
    for _ in 0..DEPTH_MAX {
        for index in 0..structs.len() {
            let one = &structs[index];
            let named =
                |field: &Field| structs.iter().find(|other| Some(other.name.as_str()) == field.kind.structure());
            let is_borrowing = one
                .fields
                .iter()
                .any(|field| field.kind.is_borrowing() || named(field).is_some_and(|structure| structure.is_borrowing));
            let is_eq = one.fields.iter().all(|field| {
                !matches!(field.kind, Type::Fixed("float64", ..))
                    && named(field).is_none_or(|structure| structure.is_eq)
            });
            let is_element = structs.iter().flat_map(|other| &other.fields).any(
                |field| matches!(&field.kind, Type::Array(element) if element.structure() == Some(one.name.as_str())),
            );
            structs[index].is_borrowing = is_borrowing;
            structs[index].is_eq = is_eq;
            structs[index].is_element = is_element;
        }
    }
    let sizes: Vec<_> = structs.iter().map(|one| ranges_of_bytes_min(structs, one, flexible)).collect();
    for (one, bytes_min) in structs.iter_mut().zip(sizes) {
        one.bytes_min = bytes_min;
        ensure!(!one.is_element || one.bytes_min_of_all() > 0, "array element {} may be empty", one.name);
    }
    Ok(())
}

/// The fewest bytes of a structure, with neighbouring versions of equal size in one range.
fn ranges_of_bytes_min(structs: &[Struct], one: &Struct, flexible: Option<Versions>) -> Vec<(Versions, usize)> {
    let mut ranges: Vec<(Versions, usize)> = Vec::new();
    for version in one.scope.min..=one.scope.max {
        let bytes = struct_bytes_min(structs, one, flexible, version);
        match ranges.last_mut() {
            Some((range, last)) if *last == bytes => range.max = version,
            _ => ranges.push((Versions { min: version, max: version }, bytes)),
        }
    }
    ranges
}

fn struct_bytes_min(structs: &[Struct], one: &Struct, flexible: Option<Versions>, version: i16) -> usize {
    let is_flexible = flexible.is_some_and(|flexible| flexible.contains(version));
    let mut bytes = usize::from(is_flexible);
    for field in &one.fields {
        if field.tag.is_some() || !field.versions.contains(version) {
            continue;
        }
        let is_compact = is_flexible && !field.is_always_classic;
        let is_nullable = field.nullable.is_some_and(|nullable| nullable.contains(version));
        bytes += match &field.kind {
            Type::Fixed(_, _, bytes) => *bytes,
            Type::Text => {
                if is_compact {
                    1
                } else {
                    2
                }
            }
            Type::Bytes | Type::Records | Type::Array(_) => {
                if is_compact {
                    1
                } else {
                    4
                }
            }
            Type::Struct(_) if is_nullable => 1,
            Type::Struct(name) => {
                let inner = structs.iter().find(|other| other.name == *name);
                inner.map_or(0, |inner| struct_bytes_min(structs, inner, flexible, version))
            }
        };
    }
    bytes
}

/// Deeper than any of Kafka's messages.
const DEPTH_MAX: usize = 12;
