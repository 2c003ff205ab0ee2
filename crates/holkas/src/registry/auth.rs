//! What we tell a registry about ourselves: auth.json and credential helpers.
