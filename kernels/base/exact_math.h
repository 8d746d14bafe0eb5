#pragma once

namespace comet {

// Functions with the same bits on every device: additions, multiplications and divisions only, each
// a single IEEE operation in a stated order, none contracted.

// The constants of Exp(), shared with the vector versions of the back ends.
namespace exp_constants {
inline constexpr float kArgumentMin = -87.0f;  // Exp(-87) is still a normal number.
inline constexpr float kArgumentMax = 88.0f;   // Exp(88) is still finite.
inline constexpr float kLog2E = 0x1.715476p+0f;
inline constexpr float kLn2High = 0x1.62e4p-1f;    // 17 bits: times |n| <= 127 it is exact.
inline constexpr float kLn2Low = 0x1.7f7d1cp-20f;  // ln 2 - kLn2High
inline constexpr float kRoundMagic = 0x1.8p+23f;   // (x + it) - it rounds |x| <= 2^22 half to even.
// Taylor coefficients 1 / n!; the first term left out, r^8 / 8!, is below 6e-9 for |r| <= ln 2 / 2.
inline constexpr float kTaylor[] = {1.0f,      1.0f,       1.0f / 2,   1.0f / 6,
                                    1.0f / 24, 1.0f / 120, 1.0f / 720, 1.0f / 5040};
}  // namespace exp_constants

// e^x within 2 ulp for x in [-87, 88]; arguments beyond are taken as the nearer end, NaN gives NaN.
//   n = RoundHalfEven(x * log2(e)), r = (x - n * ln2_high) - n * ln2_low,
//   result = Horner(kTaylor, r) * 2^n
float Exp(float x);

// The nearest integer, ties to the even one. The sign of zero is kept.
float RoundHalfEven(float x);

// Lanes of the sums whose order a contract fixes: lane j adds the elements i = j mod 1024,
// ascending.
inline constexpr int kSumLanes = 1024;

// Adds adjacent lanes pairwise, lane 2i + lane 2i + 1, ten times. `lanes` has kSumLanes values,
// which are overwritten.
float SumAdjacentLanes(float* lanes);

}  // namespace comet
