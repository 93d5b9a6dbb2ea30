//! Neighbours: who has which Ethernet address.

pub mod neighbour;
