#include "packed_weights.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace doppelgan {
namespace {

constexpr double LARGEST_SUM = std::numeric_limits<int32_t>::max();
constexpr double LARGEST_INTEGER = std::numeric_limits<int16_t>::max();

// Where output `o` of input `i` lies in a panel [count][inputs][16 or 8], at `k` of `count`.
size_t packed_at(int64_t o, int64_t i, int64_t k, int64_t count, int64_t inputs, int64_t outputs) {
    const int64_t first = o / PANEL * PANEL, width = std::min(PANEL, outputs - first);
    return static_cast<size_t>(first * count * inputs + (k * inputs + i) * width + o - first);
}

// Rounds one packed matrix to `integers`, pairs of inputs side by side; `scales` [outputs].
//
// A sum of products cannot overflow if the largest factor times the sum of an output's weights does not. Half
// an integer per input is what rounding may add to that sum.
void round_matrix(const float *floats, int64_t inputs, int64_t outputs, double limit, int16_t *integers,
                  float *scales) {
    for (int64_t o = 0; o < outputs; ++o) {
        const auto weight = [&](int64_t i) {
            return static_cast<double>(floats[packed_at(o, i, 0, 1, inputs, outputs)]);
        };
        double largest = 0, sum = 0;
        for (int64_t i = 0; i < inputs; ++i) {
            largest = std::max(largest, std::abs(weight(i)));
            sum += std::abs(weight(i));
        }
        const double room = LARGEST_SUM / limit - static_cast<double>(inputs) / 2 - 1;
        const double scale = sum > 0 ? std::min(LARGEST_INTEGER / largest, room / sum) : 1.0;
        scales[o] = static_cast<float>(1 / scale);
        const int64_t first = o / PANEL * PANEL, width = std::min(PANEL, outputs - first);
        for (int64_t i = 0; i < inputs; ++i) {
            const double scaled = weight(i) * scale;
            integers[first * inputs + (i / 2 * width + o - first) * 2 + i % 2] =
                static_cast<int16_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
        }
    }
}

}  // namespace

bool wide_products = false;

Weights pack_matrices(int64_t count, int64_t inputs, int64_t outputs, Arithmetic arithmetic,
                      const Fill &fill) {
    Weights packed{padded(inputs), padded(outputs), {}, {}, {}, 0.0f};
    const int64_t size = packed.inputs * packed.outputs;
    packed.floats.assign(static_cast<size_t>(count * size), 0.0f);
    std::vector<double> values(static_cast<size_t>(count));
    for (int64_t first = 0; first < outputs; first += PANEL)  // a panel's values lie side by side
        for (int64_t i = 0; i < inputs; ++i)
            for (int64_t o = first; o < std::min(first + PANEL, outputs); ++o) {
                fill(o, i, values.data());
                const size_t at = packed_at(o, i, 0, 1, packed.inputs, packed.outputs);
                for (int64_t m = 0; m < count; ++m)
                    packed.floats[static_cast<size_t>(m * size) + at] =
                        static_cast<float>(values[static_cast<size_t>(m)]);
            }
    if (arithmetic == Arithmetic::float32) return packed;
    // As many bits for pixels as for weights, whose mean magnitude is about a quarter of the largest.
    const double limit = std::min(
        LARGEST_INTEGER, std::floor(std::sqrt(4 * LARGEST_SUM / static_cast<double>(packed.inputs))));
    packed.limit = static_cast<float>(limit);
    packed.integers.resize(packed.floats.size());
    packed.scales.resize(static_cast<size_t>(count * packed.outputs));
    for (int64_t m = 0; m < count; ++m)
        round_matrix(packed.floats.data() + m * size, packed.inputs, packed.outputs, limit,
                     packed.integers.data() + m * size, packed.scales.data() + m * packed.outputs);
    packed.floats = decltype(packed.floats)();  // and its memory with it
    return packed;
}

Weights pack_taps(int64_t taps, int64_t inputs, int64_t outputs, const Fill &fill) {
    Weights packed{padded(inputs), padded(outputs), {}, {}, {}, 0.0f};
    packed.floats.assign(static_cast<size_t>(taps * packed.inputs * packed.outputs), 0.0f);
    std::vector<double> values(static_cast<size_t>(taps));
    for (int64_t o = 0; o < outputs; ++o)
        for (int64_t i = 0; i < inputs; ++i) {
            fill(o, i, values.data());
            for (int64_t t = 0; t < taps; ++t)
                packed.floats[packed_at(o, i, t, taps, packed.inputs, packed.outputs)] =
                    static_cast<float>(values[static_cast<size_t>(t)]);
        }
    return packed;
}

void three_into_winograd(const double g[3], double p[6]) {
    p[0] = g[0] / 4;
    p[1] = -(g[0] + g[1] + g[2]) / 6;
    p[2] = -(g[0] - g[1] + g[2]) / 6;
    p[3] = g[0] / 24 + g[1] / 12 + g[2] / 6;
    p[4] = g[0] / 24 - g[1] / 12 + g[2] / 6;
    p[5] = g[2];
}

void into_winograd(const double kernel[3][3], double *values) {
    double across[3][6], line[6];
    for (int y = 0; y < 3; ++y) three_into_winograd(kernel[y], across[y]);
    for (int q = 0; q < 6; ++q) {
        const double column[3] = {across[0][q], across[1][q], across[2][q]};
        three_into_winograd(column, line);
        for (int p = 0; p < 6; ++p) values[6 * p + q] = line[p];
    }
}

void two_into_winograd(const double g[2], double p[5]) {
    p[0] = g[0] / 2;
    p[1] = -(g[0] + g[1]) / 2;
    p[2] = -(g[0] - g[1]) / 6;
    p[3] = (g[0] + 2 * g[1]) / 6;
    p[4] = g[1];
}

}  // namespace doppelgan
