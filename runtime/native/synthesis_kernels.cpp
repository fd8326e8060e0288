// GCC's and Clang's vector types: eight floats are one AVX register or two NEON registers.

#include "synthesis_kernels.h"

namespace doppelgan {
namespace {

typedef float Vector __attribute__((vector_size(32)));
typedef float Unaligned __attribute__((vector_size(32), aligned(4)));

inline Vector load(const float *p) { return *reinterpret_cast<const Unaligned *>(p); }
inline void store(float *p, Vector v) { *reinterpret_cast<Unaligned *>(p) = v; }
inline Vector all(float v) { return Vector{v, v, v, v, v, v, v, v}; }
inline Vector least(Vector a, Vector b) { return a < b ? a : b; }
inline Vector most(Vector a, Vector b) { return a > b ? a : b; }

inline float sum(Vector v) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }

constexpr int ROWS =
    6;  // rows of a product in registers: 6 x 2 sums, 2 weights and a factor fit 16 registers

// out[r][0 .. 8 VECTORS) = sum over taps and k of taps[t][r * row_stride + k] * weights[t][k][...].
template <int COUNT, int VECTORS>
inline void multiply(const float *const *taps, int tap_count, int64_t row_stride, int64_t depth,
                     const float *weights, float *out, int64_t out_stride) {
    Vector sums[COUNT][VECTORS];
    for (int r = 0; r < COUNT; ++r)
        for (int v = 0; v < VECTORS; ++v) sums[r][v] = Vector{};
    for (int t = 0; t < tap_count; ++t) {
        const float *rows = taps[t];
        for (int64_t k = 0; k < depth; ++k) {
            Vector w[VECTORS];
            for (int v = 0; v < VECTORS; ++v) w[v] = load(weights + LANES * v);
            weights += LANES * VECTORS;
            for (int r = 0; r < COUNT; ++r) {
                const Vector factor = all(rows[r * row_stride + k]);
                for (int v = 0; v < VECTORS; ++v) sums[r][v] += factor * w[v];
            }
        }
    }
    for (int r = 0; r < COUNT; ++r)
        for (int v = 0; v < VECTORS; ++v) store(out + r * out_stride + LANES * v, sums[r][v]);
}

template <int VECTORS>
void multiply_rows(const float *const *taps, int tap_count, int64_t row_stride, int64_t rows, int64_t depth,
                   const float *weights, float *out, int64_t out_stride) {
    const float *at[TAPS];
    for (int t = 0; t < tap_count; ++t) at[t] = taps[t];
    while (rows > 0) {
        switch (rows < ROWS ? rows : ROWS) {
            case 1: multiply<1, VECTORS>(at, tap_count, row_stride, depth, weights, out, out_stride); break;
            case 2: multiply<2, VECTORS>(at, tap_count, row_stride, depth, weights, out, out_stride); break;
            case 3: multiply<3, VECTORS>(at, tap_count, row_stride, depth, weights, out, out_stride); break;
            case 4: multiply<4, VECTORS>(at, tap_count, row_stride, depth, weights, out, out_stride); break;
            case 5: multiply<5, VECTORS>(at, tap_count, row_stride, depth, weights, out, out_stride); break;
            default: multiply<6, VECTORS>(at, tap_count, row_stride, depth, weights, out, out_stride);
        }
        rows -= ROWS;
        out += ROWS * out_stride;
        for (int t = 0; t < tap_count; ++t) at[t] += ROWS * row_stride;
    }
}

// A product with one panel of output channels: two vectors of them, or one at the end.
inline void multiply_panel(bool whole, const float *const *taps, int tap_count, int64_t row_stride,
                           int64_t rows, int64_t depth, const float *weights, float *out,
                           int64_t out_stride) {
    if (whole)
        multiply_rows<2>(taps, tap_count, row_stride, rows, depth, weights, out, out_stride);
    else
        multiply_rows<1>(taps, tap_count, row_stride, rows, depth, weights, out, out_stride);
}

// What follows a convolution, for eight channels from `channel` on.
struct Ending {
    Vector demod, bias, style, high;

    Ending(const Convolution &c, int64_t channel)
        : demod(load(c.demod + channel)),
          bias(load(c.bias + channel)),
          style(load(c.style + channel)),
          high(all(c.clamp)) {}

    Vector operator()(Vector value, float noise) const {
        const Vector y = value * demod + (bias + noise);
        return most(least(most(y, y * 0.2f), high), -high);
    }
};

inline float rgb_share(const Convolution &c, int color, Vector parts) {
    const float share = sum(parts) + c.rgb_bias[color];
    return share > c.rgb_clamp ? c.rgb_clamp : share < -c.rgb_clamp ? -c.rgb_clamp : share;
}

inline int64_t map_stride(int64_t size, int64_t channels) { return (size + 2) * channels; }

// The pixel (row, column) of a map with its border.
template <typename T>
inline T *pixel(T *map, int64_t size, int64_t channels, int64_t row, int64_t column) {
    return map + (row + 1) * map_stride(size, channels) + (column + 1) * channels;
}

// -- Winograd, F(4x4, 3x3) with the points 0, +-1, +-2 and infinity
// ---------------------------------------------

inline void into_winograd(const Vector d[6], Vector t[6]) {
    const Vector a = d[4] - 4.0f * d[2], b = d[3] - 4.0f * d[1];
    const Vector c = d[4] - d[2], e = 2.0f * (d[3] - d[1]);
    t[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    t[1] = a + b;
    t[2] = a - b;
    t[3] = c + e;
    t[4] = c - e;
    t[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

inline void from_winograd(const Vector m[6], Vector y[4]) {
    const Vector a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], e = m[3] - m[4];
    y[0] = m[0] + a + c;
    y[1] = b + 2.0f * e;
    y[2] = a + 4.0f * c;
    y[3] = b + 8.0f * e + m[5];
}

// From one position's matrix to the next; the odd line keeps them out of each other's cache sets.
inline int64_t position_stride(int64_t tiles, int64_t channels) { return tiles * channels + 16; }

void transform_tile(const float *x, int64_t row_stride, int64_t channels, float *out, int64_t stride) {
    for (int64_t channel = 0; channel < channels; channel += LANES) {
        Vector columns[6][6];
        for (int j = 0; j < 6; ++j) {
            Vector d[6], t[6];
            for (int i = 0; i < 6; ++i) d[i] = load(x + i * row_stride + j * channels + channel);
            into_winograd(d, t);
            for (int i = 0; i < 6; ++i) columns[i][j] = t[i];
        }
        for (int i = 0; i < 6; ++i) {
            Vector t[6];
            into_winograd(columns[i], t);
            for (int j = 0; j < 6; ++j) store(out + (6 * i + j) * stride + channel, t[j]);
        }
    }
}

inline void add_rgb(const Convolution &c, const Vector rgb[3][TILE * TILE], int64_t row, int64_t column) {
    for (int color = 0; color < 3; ++color)
        for (int i = 0; i < TILE; ++i) {
            float *out = c.rgb + (color * c.size + row + i) * c.size + column;
            for (int j = 0; j < TILE; ++j) out[j] += rgb_share(c, color, rgb[color][TILE * i + j]);
        }
}

void finish_tile(const Convolution &c, const float *products, int64_t stride, int64_t row, int64_t column) {
    Vector rgb[3][TILE * TILE];
    for (auto &color : rgb)
        for (auto &value : color) value = Vector{};
    const float *noise = c.noise + row * c.size + column;
    for (int64_t channel = 0; channel < c.outputs; channel += LANES) {
        Vector columns[TILE][6];
        for (int j = 0; j < 6; ++j) {
            Vector m[6], y[TILE];
            for (int i = 0; i < 6; ++i) m[i] = load(products + (6 * i + j) * stride + channel);
            from_winograd(m, y);
            for (int i = 0; i < TILE; ++i) columns[i][j] = y[i];
        }
        const Ending ending(c, channel);
        for (int i = 0; i < TILE; ++i) {
            Vector y[TILE];
            from_winograd(columns[i], y);
            for (int j = 0; j < TILE; ++j) y[j] = ending(y[j], noise[i * c.size + j]);
            if (c.y)
                for (int j = 0; j < TILE; ++j)
                    store(pixel(c.y, c.size, c.outputs, row + i, column + j) + channel, y[j] * ending.style);
            if (c.rgb_weights)
                for (int color = 0; color < 3; ++color) {
                    const Vector w = load(c.rgb_weights + color * c.outputs + channel);
                    for (int j = 0; j < TILE; ++j) rgb[color][TILE * i + j] += y[j] * w;
                }
        }
    }
    if (c.rgb_weights) add_rgb(c, rgb, row, column);
}

// -- one row of pixels
// ---------------------------------------------------------------------------------------

// sums [size][outputs] -> a row of y, and its RGB.
void finish_row(const Convolution &c, const float *sums, int64_t row) {
    const float *noise = c.noise + row * c.size;
    for (int64_t column = 0; column < c.size; ++column) {
        Vector rgb[3] = {};
        for (int64_t channel = 0; channel < c.outputs; channel += LANES) {
            const Ending ending(c, channel);
            const Vector y = ending(load(sums + column * c.outputs + channel), noise[column]);
            if (c.y) store(pixel(c.y, c.size, c.outputs, row, column) + channel, y * ending.style);
            if (c.rgb_weights)
                for (int color = 0; color < 3; ++color)
                    rgb[color] += y * load(c.rgb_weights + color * c.outputs + channel);
        }
        if (c.rgb_weights)
            for (int color = 0; color < 3; ++color)
                c.rgb[(color * c.size + row) * c.size + column] += rgb_share(c, color, rgb[color]);
    }
}

// -- up-sampling
// ---------------------------------------------------------------------------------------------

// Rows of the transposed convolution, [2 in_size + 3][channels of the part] with a zero pixel at either end,
// in a ring: the FIR needs four of them.
constexpr int64_t RING = 2 * STEP + 4;

struct Ring {
    float *memory;
    int64_t channels, row_floats;
    float *row(int64_t y) const { return memory + (y + 2 * RING) % RING * row_floats; }
};

// Rows 2 i and 2 i + 1 of the transposed convolution for i in [first, end), beginning with the row `from`.
void spread_rows(const Convolution &c, const Part &part, const Ring &ring, int64_t first, int64_t end,
                 int64_t from) {
    const int64_t depth = c.inputs, width = c.in_size;
    for (int64_t channel = part.first_channel; channel < part.end_channel; channel += PANEL) {
        const bool whole = c.outputs - channel >= PANEL;
        const int64_t tap = depth * (whole ? PANEL : LANES);
        const float *weights = c.weights + channel * TAPS * depth;
        for (int64_t i = first; i < end; ++i) {
            const float *here = pixel(c.x, width, depth, i, 0), *above = pixel(c.x, width, depth, i - 1, 0);
            const float *even_even[] = {here, here - depth, above, above - depth},
                        *even_odd[] = {here, above};
            const float *odd_even[] = {here, here - depth}, *odd_odd[] = {here};
            const auto into = [&](int64_t row, int64_t column) {
                return ring.row(row) + (column + 1) * ring.channels + channel - part.first_channel;
            };
            const int64_t apart = 2 * ring.channels;
            if (2 * i >= from) {
                multiply_panel(whole, even_even, 4, depth, width + 1, depth, weights, into(2 * i, 0), apart);
                multiply_panel(whole, even_odd, 2, depth, width, depth, weights + 4 * tap, into(2 * i, 1),
                               apart);
            }
            multiply_panel(whole, odd_even, 2, depth, width + 1, depth, weights + 6 * tap, into(2 * i + 1, 0),
                           apart);
            multiply_panel(whole, odd_odd, 1, depth, width, depth, weights + 8 * tap, into(2 * i + 1, 1),
                           apart);
        }
    }
}

// The FIR over four rows and all that follows: one row of y.
void filter_row(const Convolution &c, const Part &part, const Ring &ring, int64_t row, float *line) {
    const float *rows[4];
    for (int64_t k = 0; k < 4; ++k) rows[k] = ring.row(row - 1 + k);
    for (int64_t i = 0; i < ring.row_floats; i += LANES)
        store(line + i, c.fir_down[0] * load(rows[0] + i) + c.fir_down[1] * load(rows[1] + i) +
                            c.fir_down[2] * load(rows[2] + i) + c.fir_down[3] * load(rows[3] + i));
    const float *noise = c.noise + row * c.size;
    const int64_t apart = ring.channels;
    for (int64_t channel = part.first_channel; channel < part.end_channel; channel += LANES) {
        const Ending ending(c, channel);
        const float *in = line + channel - part.first_channel;
        float *out = pixel(c.y, c.size, c.outputs, row, 0) + channel;
        for (int64_t column = 0; column < c.size; ++column, in += apart, out += c.outputs) {
            const Vector value = c.fir_across[0] * load(in) + c.fir_across[1] * load(in + apart) +
                                 c.fir_across[2] * load(in + 2 * apart) +
                                 c.fir_across[3] * load(in + 3 * apart);
            store(out, ending(value, noise[column]) * ending.style);
        }
    }
}

}  // namespace

int64_t winograd_scratch(const Convolution &c, int64_t tiles) {
    return POSITIONS * (position_stride(tiles, c.inputs) + position_stride(tiles, c.outputs));
}

void convolve_winograd(const Convolution &c, int64_t first_tile, int64_t end_tile, float *scratch) {
    const int64_t tiles = end_tile - first_tile, per_row = c.size / TILE;
    const int64_t in_stride = position_stride(tiles, c.inputs),
                  out_stride = position_stride(tiles, c.outputs);
    float *transformed = scratch, *products = scratch + POSITIONS * in_stride;
    for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t row = (first_tile + tile) / per_row * TILE,
                      column = (first_tile + tile) % per_row * TILE;
        const float *corner = pixel(c.x, c.in_size, c.inputs, row - 1, column - 1);
        transform_tile(corner, map_stride(c.in_size, c.inputs), c.inputs, transformed + tile * c.inputs,
                       in_stride);
    }
    for (int64_t position = 0; position < POSITIONS; ++position)
        for (int64_t channel = 0; channel < c.outputs; channel += PANEL) {
            const float *rows[] = {transformed + position * in_stride};
            multiply_panel(c.outputs - channel >= PANEL, rows, 1, c.inputs, tiles, c.inputs,
                           c.weights + (position * c.outputs + channel) * c.inputs,
                           products + position * out_stride + channel, c.outputs);
        }
    for (int64_t tile = 0; tile < tiles; ++tile)
        finish_tile(c, products + tile * c.outputs, out_stride, (first_tile + tile) / per_row * TILE,
                    (first_tile + tile) % per_row * TILE);
}

int64_t direct_scratch(const Convolution &c) { return c.size * c.outputs; }

void convolve_direct(const Convolution &c, int64_t first_row, int64_t end_row, float *scratch) {
    for (int64_t row = first_row; row < end_row; ++row) {
        const float *taps[TAPS];
        for (int t = 0; t < TAPS; ++t) taps[t] = pixel(c.x, c.in_size, c.inputs, row + t / 3 - 1, t % 3 - 1);
        for (int64_t channel = 0; channel < c.outputs; channel += PANEL)
            multiply_panel(c.outputs - channel >= PANEL, taps, TAPS, c.inputs, c.size, c.inputs,
                           c.weights + channel * TAPS * c.inputs, scratch + channel, c.outputs);
        finish_row(c, scratch, row);
    }
}

int64_t up_scratch(const Convolution &c, int64_t channels) {
    return (RING + 1) * (2 * c.in_size + 3) * channels;
}

void convolve_up(const Convolution &c, const Part &part, float *scratch) {
    const int64_t channels = part.end_channel - part.first_channel;
    const Ring ring{scratch, channels, (2 * c.in_size + 3) * channels};
    float *line = scratch + RING * ring.row_floats;
    for (int64_t i = 0; i < RING * ring.row_floats; i += LANES) store(scratch + i, Vector{});
    const int64_t from = 2 * part.first_row - 1, end = 2 * part.end_row;
    int64_t row =
        2 * part.first_row;  // of y, the next to be made; it needs the rows row - 1 ... row + 2 of the ring
    for (int64_t i = part.first_row - 1; row < end; i += STEP) {
        const int64_t until = i + STEP < part.end_row + 1 ? i + STEP : part.end_row + 1;
        // Above the picture there is nothing; below it the border of x, whose even row still sees the last
        // row.
        spread_rows(c, part, ring, i < 0 ? 0 : i, until, from);
        for (; row < end && row + 2 < 2 * until; ++row) filter_row(c, part, ring, row, line);
    }
}

void upsample_rgb(const float *picture, int64_t size, const float fir_down[4], const float fir_across[4],
                  float *out, int64_t first_row, int64_t end_row, float *scratch) {
    for (int color = 0; color < 3; ++color)
        for (int64_t row = first_row; row < end_row; ++row) {
            // Pixel 2 h takes x[h] f[1] + x[h - 1] f[3], pixel 2 h + 1 takes x[h] f[2] + x[h + 1] f[0].
            const int64_t near = row / 2, far = row % 2 ? near + 1 : near - 1;
            const float *source = picture + color * size * size;
            const float *a = source + near * size, *b = source + far * size;
            const float near_share = fir_down[row % 2 ? 2 : 1], far_share = fir_down[row % 2 ? 0 : 3];
            float *line = scratch + 1;
            line[-1] = line[size] = 0;
            if (far >= 0 && far < size)
                for (int64_t i = 0; i < size; ++i) line[i] = near_share * a[i] + far_share * b[i];
            else
                for (int64_t i = 0; i < size; ++i) line[i] = near_share * a[i];
            float *to = out + (color * 2 * size + row) * 2 * size;
            for (int64_t i = 0; i < size; ++i) {
                to[2 * i] = fir_across[1] * line[i] + fir_across[3] * line[i - 1];
                to[2 * i + 1] = fir_across[2] * line[i] + fir_across[0] * line[i + 1];
            }
        }
}

float dot(const float *a, const float *b, int64_t n) {
    Vector sums[2] = {};
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES)
        for (int v = 0; v < 2; ++v) sums[v] += load(a + i + LANES * v) * load(b + i + LANES * v);
    if (i < n) sums[0] += load(a + i) * load(b + i);
    return sum(sums[0] + sums[1]);
}

}  // namespace doppelgan
