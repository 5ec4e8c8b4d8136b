//! Loading of configuration.
