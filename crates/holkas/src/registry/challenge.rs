//! What a registry asks for when it says 401: the `WWW-Authenticate` header.

use std::collections::BTreeMap;

use ureq::http::HeaderMap;

/// One way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A user and a password, with every request.
    Basic,
    /// A token of a service at `realm`.
    Bearer {
        /// The address of the service that gives tokens.
        realm: String,
        /// The name that the registry has there.
        service: Option<String>,
        /// What the token must allow, as the registry sees it.
        scope: Option<String>,
    },
}

/// Returns all ways in that the headers name and we know. Headers that cannot be read are none.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let texts = headers.get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(parse).collect()
}

/// Parses one header, which may hold several challenges: `Bearer realm="…",service="…", Basic realm="…"`.
fn parse(text: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (scheme, after) = word(rest);
        if scheme.is_empty() {
            break;
        }
        let (parameters, after) = parameters(after);
        rest = after;
        match scheme.to_ascii_lowercase().as_str() {
            "basic" => found.push(Challenge::Basic),
            "bearer" => {
                let mut parameters = parameters;
                if let Some(realm) = parameters.remove("realm") {
                    let (service, scope) = (parameters.remove("service"), parameters.remove("scope"));
                    found.push(Challenge::Bearer { realm, service, scope });
                }
            }
            _ => {}
        }
    }
    found
}

fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))).unwrap_or(text.len());
    text.split_at(end)
}

/// Reads `key=value` pairs up to the next scheme, which is a word that no `=` follows.
fn parameters(mut text: &str) -> (BTreeMap<String, String>, &str) {
    let mut found = BTreeMap::new();
    loop {
        text = text.trim_start_matches([' ', '\t', ',']);
        let (key, after) = word(text);
        let Some(after) = after.trim_start().strip_prefix('=').filter(|_| !key.is_empty()) else {
            return (found, text);
        };
        let (value, after) = value(after.trim_start());
        found.entry(key.to_ascii_lowercase()).or_insert(value);
        text = after;
    }
}

fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([',', ' ']).unwrap_or(text.len()));
        return (value.to_string(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_string(),
            service: service.map(str::to_string),
            scope: scope.map(str::to_string),
        }
    }

    #[test]
    fn challenges_of_all_writings() {
        for (text, expected) in [
            (r#"Basic realm="Registry""#, vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (r#"Bearer realm="https://a/t",service="s""#, vec![bearer("https://a/t", Some("s"), None)]),
            (
                r#"Bearer realm="https://a/t", scope="repository:a/b:pull,push" , service=s"#,
                vec![bearer("https://a/t", Some("s"), Some("repository:a/b:pull,push"))],
            ),
            (r#"Negotiate, BEARER Realm="r\"q", Basic realm=x"#, vec![bearer("r\"q", None, None), Challenge::Basic]),
            (r#"Bearer service="s""#, vec![]),
            (r#"Bearer realm="unended"#, vec![bearer("unended", None, None)]),
            ("", vec![]),
            (",,,", vec![]),
            ("=\"", vec![]),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
