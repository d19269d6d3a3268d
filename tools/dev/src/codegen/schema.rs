//! A message schema as its JSON file spells it. Owns the spelling only; what it means is worked out in `resolve`.
//!
//! Unknown keys are refused, so that a newer schema cannot say something that is silently left out.

use serde::Deserialize;

/// One schema file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Schema {
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) api_key: Option<i16>,
    pub(crate) valid_versions: String,
    pub(crate) flexible_versions: String,
    pub(crate) fields: Vec<Field>,
    #[serde(default)]
    pub(crate) common_structs: Vec<CommonStruct>,
    /// Which listeners serve the API; the broker decides that from its own table.
    #[serde(rename = "listeners")]
    _listeners: Option<Vec<String>>,
    /// Whether the latest version may still change; api-versions.tsv then ends one version earlier.
    #[serde(rename = "latestVersionUnstable")]
    _latest_version_unstable: Option<bool>,
}

/// What a schema describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Request,
    Response,
    Header,
    /// Contents of opaque fields.
    Data,
    /// The key of a record in `__consumer_offsets`.
    #[serde(rename = "coordinator-key")]
    CoordinatorKey,
    /// The value of such a record.
    #[serde(rename = "coordinator-value")]
    CoordinatorValue,
}

/// A structure that several fields share.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CommonStruct {
    pub(crate) name: String,
    #[serde(rename = "versions")]
    _versions: String,
    pub(crate) fields: Vec<Field>,
}

/// One field of a message or structure.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Field {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) type_name: String,
    pub(crate) versions: String,
    pub(crate) nullable_versions: Option<String>,
    pub(crate) tagged_versions: Option<String>,
    /// Says `none` for the one field that stays classic in flexible versions: the client id of the request header.
    pub(crate) flexible_versions: Option<String>,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Option<serde_json::Value>,
    #[serde(default)]
    pub(crate) ignorable: bool,
    #[serde(default)]
    pub(crate) fields: Vec<Field>,
    /// What an id refers to; every id is a plain value on the wire.
    #[serde(rename = "entityType")]
    _entity_type: Option<String>,
    /// Whether Kafka's own classes index the array by this field.
    #[serde(rename = "mapKey")]
    _map_key: Option<bool>,
    /// Whether Kafka's own classes borrow the bytes; ours always do.
    #[serde(rename = "zeroCopy")]
    _zero_copy: Option<bool>,
}
