//! The fuzz targets under plain `cargo test`: valid encodings, mutated. `LEVERET_FUZZ_SEED` repeats a failure.

use std::{env, fs, path::Path, thread, time::SystemTime};

use leveret_wire::frame;

use crate::{
    bodies,
    fields::Fields,
    sample::{METHODS, sample},
};

const EXECUTIONS: u32 = 200_000;

#[test]
fn frame() {
    run(&frames(), bodies::frame);
}

#[test]
fn method() {
    run(&methods(), bodies::method);
}

#[test]
fn properties() {
    run(&property_lists(), bodies::properties);
}

#[test]
fn table() {
    run(&tables(), bodies::table);
}

/// Gives libFuzzer the same starting points; `cargo xtask fuzz` runs it first.
#[test]
#[ignore = "writes files: the seeds below crates/wire/fuzz/corpus"]
fn write_seeds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let targets = [("frame", frames()), ("method", methods()), ("properties", property_lists()), ("table", tables())];
    for (target, seeds) in targets {
        let directory = corpus.join(target);
        fs::create_dir_all(&directory).expect("a directory for seeds");
        for (n, seed) in seeds.iter().enumerate() {
            fs::write(directory.join(format!("seed-{n}")), seed).expect("a seed");
        }
    }
}

fn methods() -> Vec<Vec<u8>> {
    let fields = Fields::fixed();
    let encode = |index| {
        let mut out = Vec::new();
        sample(index, &fields).encode(&mut out);
        out
    };
    (0..METHODS).map(encode).collect()
}

fn property_lists() -> Vec<Vec<u8>> {
    let fields = Fields::fixed();
    let encode = |present| {
        let mut out = Vec::new();
        fields.properties(present).encode(&mut out);
        out
    };
    (0..14).map(|bit| 1 << bit).chain([0, u32::MAX, 0x0155, 0x1001]).map(encode).collect()
}

fn tables() -> Vec<Vec<u8>> {
    let mut tables: Vec<_> = Fields::fixed().tables.iter().map(|table| table.as_table().as_bytes().to_vec()).collect();
    tables.push(nested(31));
    tables.push(nested(32));
    tables
}

fn frames() -> Vec<Vec<u8>> {
    let fields = Fields::fixed();
    let mut frames: Vec<_> = (0..METHODS)
        .map(|index| {
            let mut out = Vec::new();
            frame::write_method(&mut out, 1, &sample(index, &fields));
            out
        })
        .collect();
    for properties in property_lists() {
        let mut out = Vec::new();
        frame::write_header(&mut out, 1, 5, &properties);
        frame::write_body(&mut out, 1, b"hello", 4096);
        frame::write_heartbeat(&mut out);
        frames.push(out);
    }
    frames
}

/// The entries of a table that holds a table, `depth` times.
pub fn nested(depth: usize) -> Vec<u8> {
    let mut entries = Vec::new();
    for _ in 0..depth {
        let mut outer = vec![1, b'k'];
        bodies::put_raw(&mut outer, b'F', &entries);
        entries = outer;
    }
    entries
}

fn run(seeds: &[Vec<u8>], body: fn(&[u8])) {
    seeds.iter().for_each(|seed| body(seed));
    let seed = match env::var("LEVERET_FUZZ_SEED") {
        Ok(seed) => seed.parse().expect("LEVERET_FUZZ_SEED is a number"),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_nanos() as u64),
    };
    let _report = Report(seed);
    let mut random = Random(seed | 1);
    for _ in 0..EXECUTIONS {
        let mut data = random.pick(seeds).clone();
        for _ in 0..=random.below(4) {
            mutate(&mut data, seeds, &mut random);
        }
        body(&data);
    }
}

fn mutate(data: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    // The octets that mean something here: types of values, small and large lengths, the end of a frame.
    const TELLING: &[u8] = b"tbBsuIilLfdDSATFxV\0\x01\x02\x03\x04\x08\x7F\x80\xCE\xFE\xFF";
    let at = random.below(data.len().max(1));
    match random.below(7) {
        _ if data.is_empty() => data.clone_from(random.pick(seeds)),
        0 => data[at] ^= 1 << random.below(8),
        1 => data[at] = *random.pick(TELLING),
        2 => data[at] = data[at].wrapping_add(random.below(9) as u8).wrapping_sub(4),
        3 => data.truncate(at),
        4 => drop(data.drain(at..(at + random.below(8)).min(data.len()))),
        5 => data.insert(at, *random.pick(TELLING)),
        _ => {
            let other = random.pick(seeds);
            let from = random.below(other.len().max(1)).min(other.len());
            data.truncate(at);
            data.extend_from_slice(&other[from..]);
        }
    }
}

/// xorshift64*: enough for choosing mutations, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

struct Report(u64);

impl Drop for Report {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("repeat this with LEVERET_FUZZ_SEED={}", self.0);
        }
    }
}
