//! Renders a test-only constructor that fills a structure with random values its version can carry.

use super::resolve::{Field, Struct, Type};

/// The body of `sample`, between its braces.
pub(crate) fn render_body(one: &Struct) -> String {
    let mut fields = String::new();
    for field in &one.fields {
        let value = nullable_expression(field);
        let value = match field.versions.condition(one.scope) {
            None => value,
            Some(condition) => format!("if {condition} {{ {value} }} else {{ {} }}", field.default),
        };
        fields.push_str(&format!("{}: {value},\n", field.name));
    }
    format!("Self {{ {fields} }}\n")
}

fn nullable_expression(field: &Field) -> String {
    let value = value_expression(&field.kind);
    let Some(nullable) = field.nullable else { return value };
    let or_null = format!("random.nullable({})", closure(&field.kind));
    match nullable.condition(field.versions) {
        None => or_null,
        Some(condition) => format!("if {condition} {{ {or_null} }} else {{ Some({value}) }}"),
    }
}

fn value_expression(kind: &Type) -> String {
    match kind {
        Type::Fixed(_, rust, _) => format!("random.next_{}()", rust.to_ascii_lowercase()),
        Type::Text => "random.next_string()".to_owned(),
        Type::Bytes | Type::Records => "random.next_bytes()".to_owned(),
        Type::Struct(name) => format!("{name}::sample(random, version)"),
        Type::Array(element) => format!("random.array({})", closure(element)),
    }
}

/// A function that makes one value: the method itself where it is one.
fn closure(kind: &Type) -> String {
    let value = value_expression(kind);
    match value.strip_prefix("random.").and_then(|call| call.strip_suffix("()")) {
        Some(method) => format!("Sampler::{method}"),
        None => format!("|random| {value}"),
    }
}
