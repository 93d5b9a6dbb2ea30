//! Tests of capture-file ports: one process, a private region.
