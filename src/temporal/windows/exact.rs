//! Sums that lose nothing: as values come and go the sum stays that of the values that are there, rounded once, when it is asked for.

/// A number as `units` · 2^`exponent`. Of a float the units are odd, so that equal floats are equal numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    pub units: i128,
    pub exponent: i16,
}

/// The exponent of zero, which is a multiple of everything.
const OF_ZERO: i16 = i16::MAX;

impl Number {
    #[must_use]
    pub const fn of_units(units: i128) -> Self {
        Self { units, exponent: 0 }
    }

    /// `None`: not finite.
    #[inline(always)]
    #[must_use]
    pub fn of_f64(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        let bits = value.to_bits();
        let (biased, fraction) = ((bits >> 52 & 0x7ff) as i16, (bits & ((1 << 52) - 1)) as i64);
        let (mantissa, exponent) = if biased == 0 { (fraction, -1074) } else { (fraction | 1 << 52, biased - 1075) };
        if mantissa == 0 {
            return Some(Self { units: 0, exponent: OF_ZERO });
        }
        let zeros = mantissa.trailing_zeros() as i16;
        let units = i128::from(mantissa >> zeros);
        Some(Self { units: if value.is_sign_negative() { -units } else { units }, exponent: exponent + zeros })
    }

    const fn negated(self) -> Self {
        Self { units: -self.units, exponent: self.exponent }
    }
}

/// 2^`exponent`, -1074 to 1023.
fn power_of_two(exponent: i16) -> f64 {
    if exponent >= -1022 { f64::from_bits(((exponent + 1023) as u64) << 52) } else { f64::from_bits(1 << (exponent + 1074)) }
}

#[inline(always)]
fn shifted(units: i128, by: i16) -> Option<i128> {
    let by = u32::try_from(by).ok()?;
    (units == 0 || by < units.unsigned_abs().leading_zeros()).then(|| if by < 128 { units << by } else { 0 })
}

/// A running sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    units: i128,
    exponent: i16,
    /// The values are too far apart for 127 bits, or not all finite.
    pub wide: bool,
}

impl Total {
    #[inline(always)]
    pub fn add(&mut self, number: Option<Number>) {
        match number.and_then(|number| self.with(number)) {
            Some((units, exponent)) => (self.units, self.exponent) = (units, exponent),
            None => self.wide = true,
        }
    }

    pub fn retract(&mut self, number: Option<Number>) {
        self.add(number.map(Number::negated));
    }

    /// The sum of some floats. Where they are close, which is found out first, none of the sums in between can be too large.
    #[inline(always)]
    #[must_use]
    pub fn of_floats(values: impl Iterator<Item = f64> + Clone) -> Self {
        // 53 bits and these leave room for the carries of 2^32 values.
        const CLOSE: u64 = 40;
        let nonzero = values.clone().map(f64::to_bits).filter(|bits| bits << 1 != 0);
        let exponent = |bits: u64| (bits >> 52 & 0x7ff).max(1);
        let (mut lowest, mut highest) = (u64::MAX, 0);
        for bits in nonzero.clone() {
            (lowest, highest) = (lowest.min(exponent(bits)), highest.max(exponent(bits)));
        }
        if highest == 0 {
            return Self::default();
        }
        if highest == 0x7ff || highest - lowest > CLOSE {
            let mut total = Self::default();
            values.for_each(|value| total.add(Number::of_f64(value)));
            return total;
        }
        let signed = |bits: u64| {
            let (fraction, leading) = (bits & ((1 << 52) - 1), u64::from(bits >> 52 & 0x7ff > 0) << 52);
            let (mantissa, sign) = ((fraction | leading).cast_signed(), bits.cast_signed() >> 63);
            (mantissa ^ sign) - sign
        };
        let units = nonzero.map(|bits| i128::from(signed(bits)) << (exponent(bits) - lowest)).sum();
        Self { units, exponent: lowest as i16 - 1075, wide: false }
    }

    #[inline(always)]
    fn with(&self, number: Number) -> Option<(i128, i16)> {
        if number.exponent == self.exponent {
            return Some((self.units.checked_add(number.units)?, self.exponent));
        }
        if number.units == 0 {
            return Some((self.units, self.exponent));
        }
        let exponent = if self.units == 0 { number.exponent } else { self.exponent.min(number.exponent) };
        let units = if self.units == 0 { 0 } else { shifted(self.units, self.exponent - exponent)? };
        Some((units.checked_add(shifted(number.units, number.exponent - exponent)?)?, exponent))
    }

    /// The sum, where the numbers were whole.
    #[must_use]
    pub fn units(&self) -> Option<i128> {
        shifted(self.units, self.exponent)
    }

    /// The nearest double.
    #[must_use]
    pub fn nearest(&self) -> f64 {
        // Both factors are exact or rounded once, and their product is exact or beyond the largest double: units stand for no less than the smallest one.
        if self.units == 0 { 0.0 } else { scaled(self.units.unsigned_abs(), self.exponent, self.units < 0) }
    }
}

fn scaled(units: u128, exponent: i16, negative: bool) -> f64 {
    let value = units as f64 * power_of_two(exponent.min(1023));
    if negative { -value } else { value }
}

/// The nearest double to the sum of floats, however far apart they are.
#[must_use]
pub fn sum_of_floats(values: impl Iterator<Item = f64>) -> f64 {
    // Limbs of 32 bits from 2^-1074 up, with room for carries of 2^31 values.
    let mut limbs = [0_i64; 70];
    let (mut not_a_number, mut positive, mut negative) = (false, false, false);
    for value in values {
        let Some(Number { units, exponent }) = Number::of_f64(value) else {
            not_a_number |= value.is_nan();
            positive |= value == f64::INFINITY;
            negative |= value == f64::NEG_INFINITY;
            continue;
        };
        if units == 0 {
            continue;
        }
        let place = (exponent + 1074) as usize;
        let mut rest = units.unsigned_abs() << (place % 32);
        for limb in &mut limbs[place / 32..][..3] {
            let part = (rest & 0xffff_ffff) as i64;
            *limb += if units < 0 { -part } else { part };
            rest >>= 32;
        }
    }
    if not_a_number || positive && negative {
        return f64::NAN;
    }
    if positive || negative {
        return if positive { f64::INFINITY } else { f64::NEG_INFINITY };
    }
    let carried = |limbs: &mut [i64; 70]| {
        let mut carry = 0;
        for limb in limbs.iter_mut() {
            let whole = *limb + carry;
            *limb = whole & 0xffff_ffff;
            carry = whole >> 32;
        }
        carry
    };
    let is_negative = carried(&mut limbs) < 0;
    if is_negative {
        limbs.iter_mut().for_each(|limb| *limb = -*limb);
        carried(&mut limbs);
    }
    let Some(top) = limbs.iter().rposition(|limb| *limb != 0) else { return 0.0 };
    let low = top.saturating_sub(3);
    let units = limbs[low..=top].iter().rev().fold(0_u128, |units, limb| units << 32 | *limb as u128);
    // What lies below decides only ties.
    let sticky = limbs[..low].iter().any(|limb| *limb != 0);
    let exponent = low as i16 * 32 - 1074;
    // Beyond the largest power of two, in two steps.
    let value = (units | u128::from(sticky)) as f64;
    let value = if exponent > 900 { value * power_of_two(900) * power_of_two(exponent - 900) } else { value * power_of_two(exponent) };
    if is_negative { -value } else { value }
}

/// The sum of whole numbers, where it fits.
#[must_use]
pub fn sum_of_units(values: impl Iterator<Item = i128>) -> Option<i128> {
    let (mut low, mut high) = (0_u128, 0_i128);
    for value in values {
        let (sum, carry) = low.overflowing_add(value.cast_unsigned());
        low = sum;
        high += i128::from(carry) - i128::from(value < 0);
    }
    let units = low.cast_signed();
    (high == if units < 0 { -1 } else { 0 }).then_some(units)
}

/// The running sums that a deviation needs: of the values, and of their squares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    count: u64,
    exponent: i16,
    /// No value has more bits, in units of 2^`exponent`.
    bits: u32,
    units: i128,
    /// High and low half, in units of 2^(2 · `exponent`).
    squares: (u128, u128),
    pub wide: bool,
}

impl Default for Moments {
    fn default() -> Self {
        Self { count: 0, exponent: OF_ZERO, bits: 0, units: 0, squares: (0, 0), wide: false }
    }
}

/// Bits of a value and of the count together: what follows fits in 256.
const BITS_MAX: u32 = 110;

impl Moments {
    pub fn add(&mut self, number: Option<Number>) {
        self.count += 1;
        let Some(number) = number.filter(|_| !self.wide) else {
            self.wide = true;
            return;
        };
        if number.units != 0 && number.exponent < self.exponent {
            let by = if self.exponent == OF_ZERO { 0 } else { u32::from((self.exponent - number.exponent).unsigned_abs()) };
            self.exponent = number.exponent;
            self.bits += by;
            if self.fits() {
                self.units <<= by;
                self.squares = shifted_pair(self.squares, 2 * by);
            }
        }
        if number.units != 0 {
            let by = u32::from((number.exponent - self.exponent).unsigned_abs());
            self.bits = self.bits.max(128 - number.units.unsigned_abs().leading_zeros() + by);
        }
        if !self.fits() {
            self.wide = true;
            return;
        }
        let units = self.units_of(number);
        self.units += units;
        let (high, low) = product(units.unsigned_abs(), units.unsigned_abs());
        let (sum, carry) = self.squares.1.overflowing_add(low);
        self.squares = (self.squares.0 + high + u128::from(carry), sum);
    }

    /// Takes back a number that was added.
    pub fn retract(&mut self, number: Option<Number>) {
        self.count -= 1;
        if let (Some(number), false) = (number, self.wide) {
            let units = self.units_of(number);
            self.units -= units;
            let (high, low) = product(units.unsigned_abs(), units.unsigned_abs());
            let (rest, borrow) = self.squares.1.overflowing_sub(low);
            self.squares = (self.squares.0 - high - u128::from(borrow), rest);
        }
        if self.count == 0 {
            *self = Self::default();
        }
    }

    const fn fits(&self) -> bool {
        self.bits + (64 - self.count.leading_zeros()) <= BITS_MAX
    }

    fn units_of(&self, number: Number) -> i128 {
        if number.units == 0 { 0 } else { number.units << (number.exponent - self.exponent) }
    }

    /// The deviation of a sample; `None` of fewer than two values.
    #[must_use]
    pub fn deviation(&self) -> Option<f64> {
        if self.count < 2 {
            return None;
        }
        let count = u128::from(self.count);
        // count · squares - sum², which is never negative.
        let (carried, low) = product(self.squares.1, count);
        let high = self.squares.0 * count + carried;
        let (sum_high, sum_low) = product(self.units.unsigned_abs(), self.units.unsigned_abs());
        let (low, borrow) = low.overflowing_sub(sum_low);
        let high = high - sum_high - u128::from(borrow);
        let whole = nearest_double(high, low);
        let exponent = if self.exponent == OF_ZERO { 0 } else { self.exponent };
        Some((whole / (count * (count - 1)) as f64).sqrt() * power_of_two(exponent))
    }
}

const fn shifted_pair((high, low): (u128, u128), by: u32) -> (u128, u128) {
    match by {
        0 => (high, low),
        1..128 => (high << by | low >> (128 - by), low << by),
        128..256 => (low << (by - 128), 0),
        _ => (0, 0),
    }
}

/// The nearest double to a whole number of 256 bits. Rounded once, it does not depend on the exponent that the number came to have.
fn nearest_double(high: u128, low: u128) -> f64 {
    if high == 0 {
        return low as f64;
    }
    let by = high.leading_zeros();
    let (top, rest) = shifted_pair((high, low), by);
    (top | u128::from(rest != 0)) as f64 * power_of_two(128 - by as i16)
}

/// High and low half.
const fn product(a: u128, b: u128) -> (u128, u128) {
    const LOW: u128 = u64::MAX as u128;
    let (low, middle, other) = ((a & LOW) * (b & LOW), (a >> 64) * (b & LOW), (a & LOW) * (b >> 64));
    let (middle, carry) = middle.overflowing_add(other);
    let (low, carry_low) = low.overflowing_add(middle << 64);
    ((a >> 64) * (b >> 64) + (middle >> 64) + ((carry as u128) << 64) + carry_low as u128, low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(values: &[f64]) -> Total {
        let mut total = Total::default();
        values.iter().for_each(|value| total.add(Number::of_f64(*value)));
        total
    }

    #[test]
    fn sums_are_rounded_once() {
        // By its own additions a double would say 0.30000000000000004 and 0.
        assert_eq!(total(&[0.1, 0.2]).nearest(), 0.300_000_000_000_000_04);
        assert_eq!(total(&[0.1; 10]).nearest(), 1.0);
        assert_eq!([0.1; 10].iter().sum::<f64>(), 0.999_999_999_999_999_9, "which is what plain addition makes of it");
        assert_eq!(total(&[1e16, 1.0, -1e16]).nearest(), 1.0);
        assert_eq!(total(&[5e-324, 5e-324]).nearest(), 1e-323);
        for values in [&[0.1, 0.2, 0.3][..], &[1e16, 1.0, -1e16], &[5e-324, -1e-320], &[1.5, -2.25, 1e9], &[]] {
            assert_eq!(sum_of_floats(values.iter().copied()), total(values).nearest(), "{values:?}");
        }
    }

    #[test]
    fn sums_of_some_floats_are_those_of_each_added() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 11
        };
        for case in 0..4000 {
            let spread = [1, 20, 39, 40, 41, 80, 1000][case % 7];
            let lowest = if case % 3 == 0 { 0 } else { random() % (0x7ff - spread) };
            let mut values: Vec<f64> = (0..random() % 12)
                .map(|_| f64::from_bits(random() << 63 | (lowest + random() % (spread + 1)) << 52 | random() >> 1))
                .collect();
            if case % 5 == 0 {
                values.extend([0.0, -0.0, values.first().map_or(1.0, |first| -first)]);
            }
            let (whole, each) = (Total::of_floats(values.iter().copied()), total(&values));
            assert_eq!(whole.wide, each.wide, "{values:?}");
            if !whole.wide {
                assert_eq!(whole.nearest().to_bits(), sum_of_floats(values.iter().copied()).to_bits(), "{values:?}");
                assert_eq!(whole.nearest().to_bits(), each.nearest().to_bits(), "{values:?}");
            }
        }
    }

    #[test]
    fn what_is_too_far_apart_is_summed_all_the_same() {
        let far = [1e300, 1.0, -1e300];
        assert!(total(&far).wide);
        assert_eq!(sum_of_floats(far.into_iter()), 1.0);
        assert_eq!(sum_of_floats([f64::MAX, f64::MAX, -f64::MAX].into_iter()), f64::MAX);
        assert_eq!(sum_of_floats([f64::MAX, f64::MAX].into_iter()), f64::INFINITY);
        assert_eq!(sum_of_floats([-1e300, 1e-300].into_iter()), -1e300);
        // A tie that what lies far below decides.
        assert_eq!(sum_of_floats([9_007_199_254_740_992.0, 1.0, 1e-200].into_iter()), 9_007_199_254_740_994.0);
        assert!(sum_of_floats([f64::INFINITY, f64::NEG_INFINITY].into_iter()).is_nan());
        assert_eq!(sum_of_floats([f64::INFINITY, 1.0].into_iter()), f64::INFINITY);
        assert_eq!(sum_of_units([i128::MAX, i128::MAX, -i128::MAX].into_iter()), Some(i128::MAX));
        assert_eq!(sum_of_units([i128::MIN, -1].into_iter()), None);
        assert_eq!(sum_of_units([i128::MIN, -1, 1].into_iter()), Some(i128::MIN));
    }

    #[test]
    fn what_leaves_leaves_nothing_behind() {
        let mut total = total(&[0.1, 1e10, -7.25]);
        total.retract(Number::of_f64(1e10));
        total.retract(Number::of_f64(0.1));
        assert_eq!(total.nearest(), -7.25);
        let mut moments = Moments::default();
        for value in [0.1, 1e10, 3.0, 5.0] {
            moments.add(Number::of_f64(value));
        }
        moments.retract(Number::of_f64(1e10));
        moments.retract(Number::of_f64(0.1));
        assert_eq!(moments.deviation(), Some(2.0_f64.sqrt()));
        moments.retract(Number::of_f64(5.0));
        assert_eq!(moments.deviation(), None);
        moments.retract(Number::of_f64(3.0));
        assert_eq!(moments, Moments::default());
    }

    #[test]
    fn deviations_do_not_depend_on_what_has_left() {
        let values: Vec<f64> = (0..40).map(|at| f64::from(at * 7919 % 1009) / 100.0).collect();
        for past in [1e-9, 0.1, 12_345_678.9, 1.5] {
            let mut fresh = Moments::default();
            let mut running = Moments::default();
            running.add(Number::of_f64(past));
            for value in &values {
                [&mut fresh, &mut running].into_iter().for_each(|moments| moments.add(Number::of_f64(*value)));
            }
            running.retract(Number::of_f64(past));
            assert!(!running.wide && !fresh.wide);
            assert_eq!(running.deviation(), fresh.deviation(), "after {past}");
        }
        assert_eq!(nearest_double(1, 0), power_of_two(128));
        // A tie that the last bit decides.
        assert_eq!(nearest_double((1 << 53) + 1, 0), power_of_two(128) * 9_007_199_254_740_992.0);
        assert_eq!(nearest_double((1 << 53) + 1, 1), power_of_two(128) * 9_007_199_254_740_994.0);
    }

    #[test]
    fn deviations_do_not_suffer_from_a_large_mean() {
        let deviation = |values: &[f64]| {
            let mut moments = Moments::default();
            values.iter().for_each(|value| moments.add(Number::of_f64(*value)));
            assert!(!moments.wide);
            moments.deviation()
        };
        assert_eq!(deviation(&[1e15 + 1.0, 1e15 + 2.0, 1e15 + 3.0]), Some(1.0));
        assert_eq!(deviation(&[0.0, 0.0]), Some(0.0));
        assert_eq!(deviation(&[0.0, 0.5]), Some(0.125_f64.sqrt()));
        let mut wide = Moments::default();
        [1e300, 1e-300].iter().for_each(|value| wide.add(Number::of_f64(*value)));
        assert!(wide.wide);
    }
}
