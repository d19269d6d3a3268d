//! Renders the decoding half of a structure.

use super::message::{condition_within, layout_of};
use super::resolve::{Field, Message, Struct, Type};

/// The body of `decode`, between its braces.
pub(crate) fn render_body(message: &Message, one: &Struct) -> String {
    let mut body = String::new();
    for field in one.fields.iter().filter(|field| field.tag.is_none()) {
        body.push_str(&format!("let {} = {};\n", field.name, field_expression(field, one)));
    }
    body.push_str(&tagged_section(message, one));
    let names: Vec<_> = one.fields.iter().map(|field| field.name.as_str()).collect();
    body.push_str(&format!("Ok(Self {{ {} }})\n", names.join(", ")));
    body
}

/// Reads an untagged field, or takes its default where the version does not have it.
fn field_expression(field: &Field, one: &Struct) -> String {
    let read = nullable_expression(field);
    match field.versions.condition(one.scope) {
        None => read,
        Some(condition) => format!("if {condition} {{ {read} }} else {{ {} }}", field.default),
    }
}

/// Reads a field that the version has, null or not as the version allows.
fn nullable_expression(field: &Field) -> String {
    let Some(nullable) = field.nullable else { return value_expression(field, false) };
    match nullable.condition(field.versions) {
        None => value_expression(field, true),
        Some(condition) => {
            let (read, read_required) = (value_expression(field, true), value_expression(field, false));
            format!("if {condition} {{ {read} }} else {{ Some({read_required}) }}")
        }
    }
}

fn value_expression(field: &Field, is_nullable: bool) -> String {
    let layout = layout_of(field);
    let nullable = if is_nullable { "nullable_" } else { "" };
    match &field.kind {
        Type::Fixed(_, rust, _) => format!("reader.read_{}()?", rust.to_ascii_lowercase()),
        Type::Text => format!("reader.read_{nullable}string({layout})?"),
        Type::Bytes | Type::Records => format!("reader.read_{nullable}bytes({layout})?"),
        Type::Struct(name) if is_nullable => {
            format!("if reader.read_is_present()? {{ Some({name}::decode(reader, version)?) }} else {{ None }}")
        }
        Type::Struct(name) => format!("{name}::decode(reader, version)?"),
        Type::Array(element) => {
            let (bytes_min, read) = element_expression(element, layout);
            format!("reader.read_{nullable}array({layout}, {bytes_min}, {read})?")
        }
    }
}

/// The fewest bytes of an array's element, and the function that reads one.
fn element_expression(element: &Type, layout: &str) -> (String, String) {
    match element {
        Type::Fixed(_, rust, bytes) => (bytes.to_string(), format!("Reader::read_{}", rust.to_ascii_lowercase())),
        // A compact length takes one byte, a classic one two or four: one is the fewest for both.
        Type::Text => ("1".to_owned(), format!("|reader| reader.read_string({layout})")),
        Type::Bytes | Type::Records => ("1".to_owned(), format!("|reader| reader.read_bytes({layout})")),
        Type::Struct(name) => {
            (format!("{name}::encoded_bytes_min(version)"), format!("|reader| {name}::decode(reader, version)"))
        }
        Type::Array(_) => unreachable!("no schema has arrays of arrays, and Type::parse would show one"),
    }
}

/// Reads the tagged section of flexible versions.
fn tagged_section(message: &Message, one: &Struct) -> String {
    let Some(flexible) = message.flexible.and_then(|flexible| flexible.intersect(one.scope)) else {
        return String::new();
    };
    let tagged: Vec<_> = one.fields.iter().filter(|field| field.tag.is_some()).collect();
    let mut text = String::new();
    for field in &tagged {
        text.push_str(&format!("let mut {} = {};\n", field.name, field.default));
    }
    let read = if tagged.is_empty() {
        "reader.skip_tagged_fields()?;\n".to_owned()
    } else {
        let mut arms = String::new();
        for field in &tagged {
            let tag = field.tag.unwrap_or_default();
            let guard = field.versions.condition(flexible).map(|condition| format!(" if {condition}"));
            let read = nullable_expression(field);
            arms.push_str(&format!("{tag}{} => {} = {read},\n", guard.unwrap_or_default(), field.name));
        }
        format!(
            "reader.read_tagged_fields(|tag, reader| {{ match tag {{ {arms} _ => return Ok(false), }} Ok(true) }})?;\n"
        )
    };
    text.push_str(&condition_within("layout.is_flexible()", flexible == one.scope, &read));
    text
}
