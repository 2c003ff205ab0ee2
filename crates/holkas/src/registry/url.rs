//! Addresses: where a request goes, and where an answer sends us next.

use std::fmt;

use crate::error::{Error, Result, printable};

/// An `http` or `https` address without user, password or fragment.
///
/// Printed without its query, which may hold what opens a door for an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    secure: bool,
    /// `HOST[:PORT]`, in lower case.
    authority: String,
    /// Begins with `/`; the query is part of it.
    path: String,
}

impl Url {
    /// Makes an address of its parts; `path` begins with `/`.
    pub fn new(secure: bool, authority: &str, path: &str) -> Self {
        Self { secure, authority: authority.to_ascii_lowercase(), path: path.to_string() }
    }

    /// Parses an absolute address.
    ///
    /// # Errors
    ///
    /// `Refused` for any scheme but `http` and `https`, and where there is a user; `Invalid` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let shown = || printable(text.split(['?', '#']).next().unwrap_or_default().as_bytes());
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(Error::invalid(format!("`{}` is not an address", shown())));
        };
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(Error::refused(format!("`{}` is neither http nor https", shown()))),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(Error::refused("an address with a user or a password in it is not followed"));
        }
        let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
        // What the HTTP library cannot take either would only fail later, with less to say.
        if authority.is_empty() || format!("{scheme}://{authority}{path}").parse::<ureq::http::Uri>().is_err() {
            return Err(Error::invalid(format!("`{}` is not an address", shown())));
        }
        Ok(Self::new(secure, authority, &path))
    }

    /// Returns where a `Location` or a `Link` leads from here: it may be absolute, a path, or relative.
    pub fn join(&self, location: &str) -> Result<Self> {
        if location.split_once("://").is_some_and(|(scheme, _)| scheme.bytes().all(|b| b.is_ascii_alphanumeric())) {
            return Self::parse(location);
        }
        let origin = format!("{}://{}", self.scheme(), self.authority);
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme()));
        }
        if location.starts_with('/') {
            return Self::parse(&format!("{origin}{location}"));
        }
        let path = self.path.split('?').next().unwrap_or_default();
        if location.starts_with('?') {
            return Self::parse(&format!("{origin}{path}{location}"));
        }
        let directory = path.rfind('/').map_or("/", |slash| &path[..=slash]);
        Self::parse(&format!("{origin}{directory}{location}"))
    }

    /// Returns the same with one more parameter in its query; `value` is escaped.
    #[must_use]
    pub fn with_query(mut self, key: &str, value: &str) -> Self {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        self.path.push(separator);
        self.path.push_str(key);
        self.path.push('=');
        self.path.push_str(&escape(value));
        self
    }

    /// Returns whether it is `https`.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Returns `HOST[:PORT]`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the host without its port.
    pub fn host(&self) -> &str {
        host_of(&self.authority)
    }

    /// Returns whether both lead to the same server: scheme, host and port are the same.
    pub fn same_origin(&self, other: &Self) -> bool {
        self.secure == other.secure && self.authority == other.authority
    }

    /// Returns all of it, as the HTTP library takes it. Not for messages.
    pub(super) fn whole(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority, self.path)
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

/// Returns the host of `HOST[:PORT]`; brackets of an IPv6 address are left out.
pub(super) fn host_of(authority: &str) -> &str {
    if let Some((address, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    authority.split(':').next().unwrap_or_default()
}

/// Escapes a value of a query: all but letters, digits and what is safe everywhere.
pub(super) fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "{}://{}{}", self.scheme(), self.authority, printable(path.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_followed_from_where_we_are() {
        let here = Url::parse("https://Registry.example:5000/v2/a/blobs/uploads/x?state=secret").expect("an address");
        for (location, there) in [
            ("/v2/a/blobs/uploads/y?b=1", "https://registry.example:5000/v2/a/blobs/uploads/y?b=1"),
            ("y?c", "https://registry.example:5000/v2/a/blobs/uploads/y?c"),
            ("?d=2", "https://registry.example:5000/v2/a/blobs/uploads/x?d=2"),
            ("//cdn.example/z", "https://cdn.example/z"),
            ("http://other.example/z?u=https://x", "http://other.example/z?u=https://x"),
            ("https://other.example", "https://other.example/"),
            ("https://other.example?q=1", "https://other.example/?q=1"),
        ] {
            assert_eq!(here.join(location).expect(location).whole(), there, "{location}");
        }
        for location in ["file:///etc/shadow", "unix:///run/x", "https://user:password@host/", "https://", "a b"] {
            here.join(location).expect_err(location);
        }
        assert_eq!(here.to_string(), "https://registry.example:5000/v2/a/blobs/uploads/x");
        assert_eq!(here.with_query("digest", "sha256:a/b").whole().rsplit('&').next(), Some("digest=sha256%3Aa%2Fb"));
    }

    #[test]
    fn hosts_have_no_ports() {
        for (authority, host) in [("a.b:1", "a.b"), ("a.b", "a.b"), ("[::1]:5000", "::1"), ("[::1]", "::1")] {
            assert_eq!(host_of(authority), host);
        }
    }
}
