//! Directories in which something does not check any more: what is found, what is still served, and what is not.

#[path = "damage/cases.rs"]
mod cases;
#[path = "damage/disk.rs"]
mod disk;
#[path = "damage/single.rs"]
mod single;
#[path = "damage/world.rs"]
mod world;
