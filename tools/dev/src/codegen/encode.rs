//! Renders the encoding half of a structure.

use super::message::{condition_within, layout_of};
use super::resolve::{Field, Message, Struct, Type};

/// The body of `encode`, between its braces.
pub(crate) fn render_body(message: &Message, one: &Struct) -> String {
    let mut body = String::new();
    for field in one.fields.iter().filter(|field| field.tag.is_none()) {
        let write = nullable_statement(field);
        match field.versions.condition(one.scope) {
            None => body.push_str(&write),
            Some(condition) if field.is_ignorable => body.push_str(&format!("if {condition} {{ {write} }}\n")),
            Some(condition) => {
                let refuse = refuse_statement("FieldNotInVersion", field);
                let differs = differs_expression(field);
                body.push_str(&format!("if {condition} {{ {write} }} else if {differs} {{ {refuse} }}\n"));
            }
        }
    }
    body.push_str(&tagged_section(message, one));
    body.push_str("Ok(())\n");
    body
}

/// Writes a field that the version has, null or not as the version allows.
fn nullable_statement(field: &Field) -> String {
    let value = format!("self.{}", field.name);
    let Some(nullable) = field.nullable else { return value_statement(field, &value, false) };
    match nullable.condition(field.versions) {
        None => value_statement(field, &value, true),
        Some(condition) => {
            let write = value_statement(field, &value, true);
            let write_required = value_statement(field, "value", false);
            let refuse = refuse_statement("NullNotAllowed", field);
            format!(
                "if {condition} {{ {write} }} else {{ let Some(value) = &{value} else {{ {refuse} }};\n{write_required} }}\n"
            )
        }
    }
}

fn value_statement(field: &Field, value: &str, is_nullable: bool) -> String {
    let layout = layout_of(field);
    let nullable = if is_nullable { "nullable_" } else { "" };
    // An array is borrowed from `self`; `value` already is a borrow.
    let borrow = if value.starts_with("self.") { "&" } else { "" };
    match &field.kind {
        // The writer counts answers that carry errors.
        Type::Fixed(..) if field.wire_name == "ErrorCode" => format!("writer.write_error_code({value});\n"),
        Type::Fixed(_, rust, _) => format!("writer.write_{}({value});\n", rust.to_ascii_lowercase()),
        Type::Text => format!("writer.write_{nullable}string({layout}, {value})?;\n"),
        Type::Bytes | Type::Records => format!("writer.write_{nullable}bytes({layout}, {value})?;\n"),
        Type::Struct(_) if is_nullable => format!(
            "writer.write_is_present({value}.is_some());\n\
             if let Some(value) = &{value} {{ value.encode(writer, version)?; }}\n"
        ),
        Type::Struct(_) => format!("{value}.encode(writer, version)?;\n"),
        Type::Array(element) => {
            let elements = if is_nullable { format!("{value}.as_deref()") } else { format!("{borrow}{value}") };
            format!("writer.write_{nullable}array({layout}, {elements}, {})?;\n", element_closure(element, layout))
        }
    }
}

fn element_closure(element: &Type, layout: &str) -> String {
    match element {
        Type::Fixed(_, rust, _) => {
            format!("|writer, element| {{ writer.write_{}(*element); Ok(()) }}", rust.to_ascii_lowercase())
        }
        Type::Text => format!("|writer, element| writer.write_string({layout}, element)"),
        Type::Bytes | Type::Records => format!("|writer, element| writer.write_bytes({layout}, element)"),
        Type::Struct(_) => "|writer, element| element.encode(writer, version)".to_owned(),
        Type::Array(_) => unreachable!("no schema has arrays of arrays, and Type::parse would show one"),
    }
}

/// Whether the field says something else than its default.
fn differs_expression(field: &Field) -> String {
    let value = format!("self.{}", field.name);
    match (field.default.as_str(), &field.kind) {
        ("None", _) => format!("{value}.is_some()"),
        ("true", _) => format!("!{value}"),
        ("false", _) => value,
        ("\"\"" | "&[]" | "Vec::new()", _) => format!("!{value}.is_empty()"),
        ("Some(Vec::new())", _) => format!("{value}.as_ref().is_none_or(|value| !value.is_empty())"),
        ("Some(\"\")" | "Some(&[])", _) => format!("{value}.is_none_or(|value| !value.is_empty())"),
        ("0.0", _) => format!("{value}.to_bits() != 0"),
        (default, _) => format!("{value} != {default}"),
    }
}

fn refuse_statement(error: &str, field: &Field) -> String {
    format!("return Err(EncodeError::{error} {{ field: {:?}, version }});", field.wire_name)
}

/// Writes the tagged section of flexible versions, after refusing what the version cannot carry.
fn tagged_section(message: &Message, one: &Struct) -> String {
    let tagged: Vec<_> = one.fields.iter().filter(|field| field.tag.is_some()).collect();
    let mut text = String::new();
    for field in tagged.iter().filter(|field| !field.is_ignorable) {
        if let Some(condition) = field.versions.condition(one.scope) {
            let absent = match condition.strip_prefix("version >= ") {
                Some(min) => format!("version < {min}"),
                None => format!("!({condition})"),
            };
            let (differs, refuse) = (differs_expression(field), refuse_statement("FieldNotInVersion", field));
            text.push_str(&format!("if {absent} && {differs} {{ {refuse} }}\n"));
        }
    }
    let Some(flexible) = message.flexible.and_then(|flexible| flexible.intersect(one.scope)) else {
        return text;
    };
    let mut write = String::new();
    let mut present = Vec::new();
    for field in &tagged {
        let name = format!("has_{}", field.name.trim_start_matches("r#"));
        let differs = differs_expression(field);
        let condition = field.versions.condition(flexible).map(|condition| format!("{condition} && "));
        write.push_str(&format!("let {name} = {}{differs};\n", condition.unwrap_or_default()));
        present.push(name);
    }
    if present.is_empty() {
        write.push_str("writer.write_uvarint(0);\n");
    } else {
        write.push_str(&format!("writer.write_tag_count(&[{}]);\n", present.join(", ")));
    }
    for (field, name) in tagged.iter().zip(&present) {
        let tag = field.tag.unwrap_or_default();
        let value = nullable_statement(field);
        // A closure whose only statement is a fallible call returns what the call returns.
        let value = match value.strip_suffix("?;\n") {
            Some(call) if !call.contains('\n') && !call.starts_with("if ") => call.to_owned(),
            _ => format!("{{ {value} Ok(()) }}"),
        };
        write.push_str(&format!("if {name} {{ writer.write_tagged({tag}, |writer| {value})?; }}\n"));
    }
    text.push_str(&condition_within("layout.is_flexible()", flexible == one.scope, &write));
    text
}
