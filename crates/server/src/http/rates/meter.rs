//! Two looks at some numbers make a rate.

use rustc_hash::FxHashMap;
use std::hash::Hash;

/// Numbers at the last look, and how fast they change.
#[derive(Clone, Copy, Debug)]
pub struct Meter<const N: usize> {
    /// At the last look.
    pub values: [u64; N],
    /// Per second, between the last two looks.
    pub rates: [f32; N],
    /// When the last look was, in milliseconds since 1970; 0 if there was none.
    at: u64,
}

impl<const N: usize> Default for Meter<N> {
    fn default() -> Meter<N> {
        Meter { values: [0; N], rates: [0.0; N], at: 0 }
    }
}

impl<const N: usize> Meter<N> {
    /// Another look.
    pub fn update(&mut self, now: u64, values: [u64; N]) {
        let elapsed = now.saturating_sub(self.at) as f32 / 1000.0;
        if self.at == 0 || elapsed <= 0.0 {
            self.rates = [0.0; N];
        } else {
            // Lengths may shrink.
            let rate = |at: usize| (values[at] as f64 - self.values[at] as f64) as f32 / elapsed;
            self.rates = std::array::from_fn(rate);
        }
        (self.values, self.at) = (values, now);
    }
}

/// The meters of all things of a kind.
#[derive(Debug)]
pub struct Meters<K, const N: usize>(FxHashMap<K, Meter<N>>);

impl<K, const N: usize> Default for Meters<K, N> {
    fn default() -> Meters<K, N> {
        Meters(FxHashMap::default())
    }
}

impl<K: Clone + Eq + Hash, const N: usize> Meters<K, N> {
    /// A look at all there are; those that are not among them are forgotten.
    pub fn update_all<'a>(&mut self, now: u64, all: impl Iterator<Item = (&'a K, [u64; N])>)
    where
        K: 'a,
    {
        for (key, values) in all {
            match self.0.get_mut(key) {
                Some(meter) => meter.update(now, values),
                None => {
                    let mut meter = Meter::default();
                    meter.update(now, values);
                    self.0.insert(key.clone(), meter);
                }
            }
        }
        self.0.retain(|_, meter| meter.at == now);
        if self.0.capacity() > 4 * self.0.len() + 1024 {
            self.0.shrink_to_fit();
        }
    }

    /// What is known of it; zeros if that is nothing.
    pub fn get(&self, key: &K) -> Meter<N> {
        self.0.get(key).copied().unwrap_or_default()
    }

    /// Per second; 0 for what is not known.
    pub fn rate(&self, key: &K) -> [f32; N] {
        self.0.get(key).map_or([0.0; N], |meter| meter.rates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_per_second_and_what_is_gone_is_forgotten() {
        let mut meters = Meters::<u8, 1>::default();
        meters.update_all(1000, [(&1, [10])].into_iter());
        assert_eq!(meters.rate(&1), [0.0]);
        meters.update_all(3000, [(&1, [30]), (&2, [5])].into_iter());
        assert_eq!((meters.rate(&1), meters.rate(&2)), ([10.0], [0.0]));
        meters.update_all(4000, [(&2, [1])].into_iter());
        assert_eq!((meters.rate(&1), meters.rate(&2)), ([0.0], [-4.0]));
    }
}
