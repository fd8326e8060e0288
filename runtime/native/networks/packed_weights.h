// Convolution weights as the products read them (products.h): matrices of inputs x outputs, transformed for
// Winograd where that applies, as floats or as 16-bit integers.
#pragma once

#include "large_pages.h"

#include <cstdint>
#include <functional>

namespace doppelgan {

constexpr int64_t LANES = 8;   // channels per vector
constexpr int64_t PANEL = 16;  // output channels that are computed together

constexpr int64_t padded(int64_t channels) { return (channels + LANES - 1) / LANES * LANES; }

// What the large products are computed in. int16 rounds both sides of a product, weights once and pixels as
// they come, each row to a scale of its own; sums are exact (32 bits, scaled so that they cannot overflow).
enum class Arithmetic { float32, int16 };

// Whether products of floats are computed sixteen lanes wide: set when the module is loaded, and by tests.
extern bool wide_products;

// What a kernel reads.
struct PackedWeights {
    int64_t inputs, outputs;  // padded
    const float *floats;      // [matrix][panel][inputs][16], 8 in a last panel of 8
    const int16_t *integers;  // in their place: [matrix][panel][inputs / 2][16][2]
    const float *scales;      // [matrix][outputs]: what an integer stands for
    float limit;              // pixels are rounded to integers of this magnitude at most
};

// The same with its memory.
struct Weights {
    int64_t inputs, outputs;
    Large<float> floats, scales;
    Large<int16_t> integers;
    float limit;

    PackedWeights view() const {
        return {inputs,
                outputs,
                integers.empty() ? floats.data() : nullptr,
                integers.empty() ? nullptr : integers.data(),
                scales.data(),
                limit};
    }
    size_t bytes() const {
        return (floats.size() + scales.size()) * sizeof(float) + integers.size() * sizeof(int16_t);
    }
};

// `fill(o, i, values)` gives the weight from input i to output o in each of `count` matrices.
using Fill = std::function<void(int64_t output, int64_t input, double *values)>;
Weights pack_matrices(int64_t count, int64_t inputs, int64_t outputs, Arithmetic arithmetic,
                      const Fill &fill);

// Taps one after another within a panel: floats [panel][taps][inputs][16].
Weights pack_taps(int64_t taps, int64_t inputs, int64_t outputs, const Fill &fill);

// A kernel's 3 taps in the 6 positions of F(4, 3), and 2 taps in the 5 of F(4, 2); see winograd.h.
void three_into_winograd(const double taps[3], double positions[6]);
void two_into_winograd(const double taps[2], double positions[5]);

// The 36 matrices' values for one 3x3 kernel, F(4x4, 3x3).
void into_winograd(const double kernel[3][3], double *values);

}  // namespace doppelgan
