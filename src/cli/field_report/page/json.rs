//! Values of JSON files as text.

use serde_json::Value;

/// Formats a JSON value as text: strings without quotes, null as the empty string.
pub(super) fn words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn scientific(value: &Value) -> String {
    value.as_f64().map_or("-".to_owned(), |v| format!("{v:.2e}"))
}

pub(super) fn fixed(value: &Value, digits: usize) -> String {
    value.as_f64().map_or("-".to_owned(), |v| format!("{v:.digits$}"))
}

/// Percent-encodes text for a data URL.
pub(super) fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
