//! Tokens for the SASL mechanism OAUTHBEARER, from a file that someone else keeps fresh.

use std::ffi::CString;
use std::fs;
use std::path::Path;
use std::ptr;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::ClientContext;
use rdkafka::client::{Client, OAuthToken};
use rdkafka::error::RDKafkaErrorCode;
use serde::Deserialize;

/// Who is named to librdkafka where a token names nobody; brokers look at the token only.
const NOBODY: &str = "afflux";

/// What a client has to know of a token. The rest is between its issuer and the broker.
#[derive(Debug, Deserialize)]
struct Claims {
    /// Seconds since 1970.
    exp: Option<f64>,
    sub: Option<String>,
}

/// The token that a file holds now. Reasons name the file and never hold any of the token.
pub(super) fn read(file: &Path) -> Result<OAuthToken, String> {
    let at = |reason: &dyn std::fmt::Display| format!("{}: {reason}", file.display());
    let text = fs::read_to_string(file).map_err(|error| at(&error))?;
    parse(text.trim(), SystemTime::now()).map_err(|reason| at(&reason))
}

fn parse(token: &str, now: SystemTime) -> Result<OAuthToken, String> {
    const SHAPE: &str = "no JWT: three parts of base64, separated by dots, are expected";
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(SHAPE.to_owned());
    };
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).map_err(|_| SHAPE.to_owned())?;
    // The parser's own words might quote the token.
    let claims: Claims =
        serde_json::from_slice(&claims).map_err(|_| "the JWT's claims are no JSON object as expected".to_owned())?;
    let Some(exp) = claims.exp else { return Err("the JWT has no `exp`, so nobody knows when to renew it".to_owned()) };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    if exp <= now {
        return Err(format!("the token expired {:.0} seconds ago; whoever writes the file has to renew it", now - exp));
    }
    Ok(OAuthToken {
        token: token.to_owned(),
        principal_name: claims.sub.unwrap_or_else(|| NOBODY.to_owned()),
        lifetime_ms: (exp * 1000.0) as i64,
    })
}

/// Gives a client its token. librdkafka asks for tokens through the queue that a client's user polls; this is for the
/// clients that nobody polls, which have to be given one before each use.
pub(super) fn give<C: ClientContext>(client: &Client<C>, token: OAuthToken) -> Result<(), String> {
    let lifetime_ms = token.lifetime_ms;
    let text = |text: String| CString::new(text).map_err(|_| "the token holds a zero byte".to_owned());
    let (token, principal) = (text(token.token)?, text(token.principal_name)?);
    // Without room for librdkafka's own words: they might quote the token.
    #[expect(unsafe_code, reason = "rdkafka has no other way to it")]
    // SAFETY: the client outlives the call, librdkafka copies both strings, and no extensions are passed.
    let code = unsafe {
        rdkafka::bindings::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            token.as_ptr(),
            lifetime_ms,
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            ptr::null_mut(),
            0,
        )
    };
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::NoError => Ok(()),
        code => Err(format!("librdkafka refuses the token: {code}")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn jwt(claims: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn lifetime_and_principal_are_the_tokens_own() {
        let text = jwt(r#"{"sub":"system:serviceaccount:obs:afflux","exp":1700000000,"aud":["kafka"]}"#);
        let token = parse(&text, at(1_699_999_999)).unwrap();
        assert_eq!(token.principal_name, "system:serviceaccount:obs:afflux");
        assert_eq!(token.lifetime_ms, 1_700_000_000_000);
        assert_eq!(token.token, text);
        assert_eq!(parse(&jwt(r#"{"exp":5.5}"#), at(5)).unwrap().lifetime_ms, 5500);
    }

    #[test]
    fn what_is_no_valid_token_is_refused_and_never_shown() {
        let refused = |text: &str, why: &str| {
            let reason = parse(text, at(100)).err().unwrap();
            assert!(reason.contains(why), "{reason}");
            assert!(!reason.contains("hunter2"), "{reason}");
        };
        refused("hunter2", "no JWT");
        refused("a.hunter2!.c", "no JWT");
        refused(&jwt("\"hunter2\""), "no JSON object");
        refused(&jwt(r#"{"exp":"hunter2"}"#), "no JSON object");
        refused(&jwt(r#"{"sub":"hunter2"}"#), "no `exp`");
        refused(&jwt(r#"{"exp":58}"#), "expired 42 seconds ago");
    }

    #[test]
    fn a_missing_file_is_named() {
        let reason = read(Path::new("/nowhere/token")).err().unwrap();
        assert!(reason.starts_with("/nowhere/token: "), "{reason}");
    }
}
