//! registries.conf, version 2 and its drop-ins: which hosts are asked for a name, in which order.
