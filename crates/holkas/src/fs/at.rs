//! One path syscall each, relative to an open directory, for names of a single component.

