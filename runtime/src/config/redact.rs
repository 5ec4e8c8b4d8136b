//! Secrets: what is never shown.

use serde_json::Value;

/// Shown in place of a secret.
const HIDDEN: &str = "(hidden)";

/// Parts of key names behind which secrets stand, in lower case.
const SECRET_WORDS: [&str; 9] =
    ["password", "passwd", "secret", "token", "credential", "jaas", "private_key", "access_key", "ssl.key.pem"];

/// Whether a secret stands behind that key or path.
///
/// A path to a file that holds one (`password_file`) is no secret.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    let names_a_file = ["_file", ".file", ".location", "_path"].iter().any(|end| key.ends_with(end));
    !names_a_file && SECRET_WORDS.iter().any(|word| key.contains(word))
}

/// The value without its secrets: what stands behind keys that name one, and passwords within URLs.
pub fn redacted(value: Value) -> Value {
    match value {
        Value::Object(entries) => {
            let entry = |(key, value): (String, Value)| {
                let secret = is_secret(&key) && !value.is_null() && !value.is_object();
                let value = if secret { Value::from(HIDDEN) } else { redacted(value) };
                (key, value)
            };
            Value::Object(entries.into_iter().map(entry).collect())
        }
        Value::Array(items) => items.into_iter().map(redacted).collect(),
        Value::String(text) => Value::String(without_userinfo(text)),
        other => other,
    }
}

/// A URL without user and password; any other text as it is.
fn without_userinfo(text: String) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((userinfo, _)) => format!("{scheme}://{HIDDEN}{}", &rest[userinfo.len()..]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let config = json!({
            "bus": {"kafka": {"options": {"sasl.password": "hunter2", "ssl.key.location": "/etc/key", "linger.ms": 5}}},
            "sinks": [{"secret_access_key": "hunter2", "url": "https://u:hunter2@host/x?y=@z"}],
            "tokens": {"bearer_token": "hunter2", "token_file": "/run/token"},
            "password": null,
        });
        let shown = redacted(config);
        assert!(!shown.to_string().contains("hunter2"), "{shown}");
        assert_eq!(shown["bus"]["kafka"]["options"]["ssl.key.location"], "/etc/key");
        assert_eq!(shown["sinks"][0]["url"], "https://(hidden)@host/x?y=@z");
        assert_eq!(shown["tokens"]["token_file"], "/run/token");
        assert_eq!(shown["password"], Value::Null);
    }
}
