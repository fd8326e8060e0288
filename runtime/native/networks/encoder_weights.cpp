#include "encoder_weights.h"

namespace doppelgan {
namespace {

constexpr int64_t BORDER_CASES = 9;

// The matrices' values for one 3x3 kernel of stride 2, F(4x4, 2x2): odd pixels meet the first and the last tap, even ones the middle.
void halving_into_winograd(const double kernel[3][3], double *values) {
    const auto two = [](double first, double last, double positions[5]) {
        const double taps[2] = {first, last};
        two_into_winograd(taps, positions);
    };
    double above[5], below[5], line[5];
    two(kernel[0][0], kernel[0][2], above);
    two(kernel[2][0], kernel[2][2], below);
    for (int q = 0; q < 5; ++q) {
        two(above[q], below[q], line);
        for (int p = 0; p < 5; ++p) values[5 * p + q] = line[p];
    }
    two(kernel[0][1], kernel[2][1], values + 25);
    two(kernel[1][0], kernel[1][2], values + 30);
    values[35] = kernel[1][1];
}

}  // namespace

bool meets(const MapConvolution &c, int64_t tap_line) {
    for (int64_t i = 0; i < c.size; ++i) {
        const int64_t at = i * c.stride + tap_line - c.side / 2;
        if (at >= 0 && at < c.in_size) return true;
    }
    return false;
}

Weights pack_convolution(const EncoderStep &step, const MapConvolution &c, Arithmetic arithmetic) {
    const int64_t taps = step.side * step.side;
    const auto kernel_of = [&](int64_t o, int64_t i) { return step.weight + (o * step.inputs + i) * taps; };
    if (c.method == Method::picture)
        return pack_matrices(1, step.inputs * taps, step.outputs, Arithmetic::float32,
                             [&](int64_t o, int64_t i, double *value) {
                                 *value = static_cast<double>(kernel_of(o, i / taps)[i % taps]);
                             });
    if (c.method == Method::direct)  // single products are too few to be worth rounding the pixels
        return pack_matrices(c.tap_count, step.inputs, step.outputs,
                             taps > 1 ? arithmetic : Arithmetic::float32,
                             [&](int64_t o, int64_t i, double *values) {
                                 for (int64_t t = 0; t < c.tap_count; ++t)
                                     values[t] = static_cast<double>(kernel_of(o, i)[c.taps[t]]);
                             });
    const bool halving = c.method == Method::halving;
    return pack_matrices(halving ? HALVING_MATRICES : WINOGRAD_MATRICES, step.inputs, step.outputs,
                         arithmetic, [&](int64_t o, int64_t i, double *values) {
                             double kernel[3][3];
                             for (int t = 0; t < 9; ++t)
                                 kernel[t / 3][t % 3] = static_cast<double>(kernel_of(o, i)[t]);
                             halving ? halving_into_winograd(kernel, values) : into_winograd(kernel, values);
                         });
}

std::vector<float> border_bias(const EncoderStep &step, int64_t outputs) {
    std::vector<float> bias(static_cast<size_t>(BORDER_CASES * outputs), 0.0f);
    for (int64_t place = 0; place < BORDER_CASES; ++place)
        for (int64_t o = 0; o < step.outputs; ++o) {
            double total = static_cast<double>(step.bias[o]);
            for (int64_t t = 0; step.shift && t < step.side * step.side; ++t) {
                const auto outside = [&](int64_t line, int64_t tap) {  // line: 0 first, 1 middle, 2 last
                    return step.side == 3 && ((line == 0 && tap == 0) || (line == 2 && tap == 2));
                };
                if (outside(place / 3, t / step.side) || outside(place % 3, t % step.side)) continue;
                const float *weight = step.weight + o * step.inputs * step.side * step.side + t;
                for (int64_t i = 0; i < step.inputs; ++i)
                    total += static_cast<double>(weight[i * step.side * step.side]) *
                             static_cast<double>(step.shift[i]);
            }
            bias[static_cast<size_t>(place * outputs + o)] = static_cast<float>(total);
        }
    return bias;
}

}  // namespace doppelgan
