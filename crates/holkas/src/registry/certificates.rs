//! certs.d: whom a registry's host is believed to be, and who we are to it.
