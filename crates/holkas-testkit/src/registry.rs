//! A registry in this process: honest, or lying as a test tells it to.
