//! The `docker://` room: registries, by the OCI distribution protocol and Docker's.
//!
//! | file | what it owns |
//! |---|---|
//! | `conf` | registries.conf: which hosts are asked for a name, in which order |
//! | `certificates` | certs.d: whom a host is believed to be, and who we are to it |
//! | `scopes` | the names under which a policy speaks of an image in a registry |
//! | `auth` | auth.json and credential helpers: what we tell a host about ourselves |

pub mod auth;
pub mod certificates;
pub mod conf;
pub mod scopes;
