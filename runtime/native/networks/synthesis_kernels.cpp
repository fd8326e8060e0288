#include "synthesis_kernels.h"

#include "products.h"
#include "synthesis_maps.h"
#include "winograd.h"

namespace doppelgan {
namespace {

inline float rgb_share(const Convolution &c, int color, Vector parts) {
    const float share = sum(parts) + c.rgb_bias[color];
    return share > c.rgb_clamp ? c.rgb_clamp : share < -c.rgb_clamp ? -c.rgb_clamp : share;
}

// y [pixels][outputs], times the next style, into the map from `to` on.
inline void store_pixels(const Convolution &c, const float *y, int64_t pixels, int64_t to) {
    for (int64_t p = 0; p < pixels; ++p, y += c.outputs, to += c.outputs)
        for (int64_t channel = 0; channel < c.outputs; channel += LANES)
            put(c.y, to + channel, load(y + channel) * load(c.style + channel));
}

// -- Winograd, F(4x4, 3x3)

// The rows of a block's products: for each position the same row of every tile.
struct Layout {
    int64_t tiles, channels;

    // From one position's matrix to the next; the odd line keeps them out of each other's cache sets.
    int64_t stride() const { return tiles * channels + 16; }
    int64_t floats() const { return POSITIONS * stride(); }
};

// x's pixels from the tile's corner on -> out, `stride` from one position to the next.
template <typename Value>
void transform_tile(const Value *x, int64_t row_stride, int64_t channels, float *out, int64_t stride) {
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

// A tile's share of the RGB: y [TILE * TILE][outputs].
void add_rgb(const Convolution &c, const float *y, int64_t row, int64_t column) {
    for (int64_t i = 0; i < TILE; ++i, y += TILE * c.outputs) {
        Vector parts[3][TILE] = {};
        for (int64_t channel = 0; channel < c.outputs; channel += LANES)
            for (int color = 0; color < 3; ++color) {
                const Vector w = load(c.rgb_weights + color * c.outputs + channel);
                for (int64_t j = 0; j < TILE; ++j) parts[color][j] += w * load(y + j * c.outputs + channel);
            }
        for (int color = 0; color < 3; ++color) {
            float *out = c.rgb + (color * c.size + row + i) * c.size + column;
            Quad share = sums(parts[color]) + c.rgb_bias[color];
            share = share > c.rgb_clamp ? Quad{} + c.rgb_clamp : share;
            share = share < -c.rgb_clamp ? Quad{} - c.rgb_clamp : share;
            store(out, load_quad(out) + share);
        }
    }
}

// kept: room for the tile's own values, [TILE * TILE][outputs].
void finish_tile(const Convolution &c, const float *products, int64_t stride, int64_t row, int64_t column,
                 float *kept) {
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
            for (int j = 0; j < TILE; ++j)
                store(kept + (TILE * i + j) * c.outputs + channel, ending(y[j], noise[i * c.size + j]));
        }
    }
    if (c.rgb_weights) add_rgb(c, kept, row, column);
    for (int64_t i = 0; c.y && i < TILE; ++i)
        store_pixels(c, kept + TILE * i * c.outputs, TILE, pixel(c.size, c.outputs, row + i, column));
}

// -- one row of pixels

// sums [size][outputs] -> a row of y, and its RGB.
void finish_row(const Convolution &c, const float *sums, int64_t row) {
    const float *noise = c.noise + row * c.size;
    for (int64_t column = 0; column < c.size; ++column) {
        Vector rgb[3] = {};
        for (int64_t channel = 0; channel < c.outputs; channel += LANES) {
            const Ending ending(c, channel);
            const Vector y = ending(load(sums + column * c.outputs + channel), noise[column]);
            if (c.y) put(c.y, pixel(c.size, c.outputs, row, column) + channel, y * load(c.style + channel));
            if (c.rgb_weights)
                for (int color = 0; color < 3; ++color)
                    rgb[color] += y * load(c.rgb_weights + color * c.outputs + channel);
        }
        if (c.rgb_weights)
            for (int color = 0; color < 3; ++color)
                c.rgb[(color * c.size + row) * c.size + column] += rgb_share(c, color, rgb[color]);
    }
}

}  // namespace

int64_t winograd_scratch(const Convolution &c, int64_t tiles) {
    const Layout in{tiles, c.inputs}, single{1, c.inputs}, out{tiles, c.outputs};
    return TILE * TILE * c.outputs + out.floats() +
           Factors::memory(c.weights, in.floats(), POSITIONS * tiles, single.floats());
}

void convolve_winograd(const Pictures &pictures, int64_t first_tile, int64_t end_tile, float *scratch) {
    const Convolution &c = pictures.each[0];  // what all have in common
    const int64_t tiles = end_tile - first_tile, per_row = c.size / TILE;
    const int64_t per_map = per_row * (pictures.rows() / TILE);
    const Layout in{tiles, c.inputs}, single{1, c.inputs}, out{tiles, c.outputs};
    float *kept = scratch, *products = kept + TILE * TILE * c.outputs;
    const Factors factors(c.weights, products + out.floats(), in.floats(), POSITIONS * tiles);
    const auto map_of = [&](int64_t tile) { return (first_tile + tile) / per_map; };
    const auto row_of = [&](int64_t tile) {
        return pictures.first_row + (first_tile + tile) % per_map / per_row * TILE;
    };
    const auto column_of = [&](int64_t tile) { return (first_tile + tile) % per_row * TILE; };
    for (int64_t tile = 0; tile < tiles; ++tile) {
        const ConstMap &x = pictures.each[map_of(tile)].x;
        const int64_t corner = pixel(c.in_size, c.inputs, row_of(tile) - 1, column_of(tile) - 1);
        const int64_t row_stride = map_stride(c.in_size, c.inputs), at = tile * c.inputs;
        const auto transform = [&](float *to, int64_t stride) {
            x.halves ? transform_tile(x.halves + corner, row_stride, c.inputs, to, stride)
                     : transform_tile(x.floats + corner, row_stride, c.inputs, to, stride);
        };
        if (!factors.rounded) {
            transform(factors.floats + at, in.stride());
            continue;
        }
        transform(factors.tile, single.stride());
        factors.round(POSITIONS, [&](int64_t p) {
            return RowPlace{p * single.stride(), p * in.stride() + at, p * tiles + tile};
        });
    }
    for (int64_t p = 0; p < POSITIONS; ++p)
        multiply_matrix(c.weights, p, factors.rows(p * in.stride(), p * tiles), tiles, 0, c.outputs,
                        products + p * out.stride(), c.outputs);
    for (int64_t tile = 0; tile < tiles; ++tile)
        for (int64_t n = pictures.first_of(map_of(tile)); n < pictures.end_of(map_of(tile)); ++n)
            finish_tile(pictures.each[n], products + tile * c.outputs, out.stride(), row_of(tile),
                        column_of(tile), kept);
    finish_stores();
}

int64_t direct_scratch(const Convolution &c, int64_t rows) { return rows * c.size * c.outputs; }

void convolve_direct(const Pictures &pictures, int64_t first_row, int64_t end_row, float *scratch) {
    const Convolution &c = pictures.each[0];  // what all have in common
    const int64_t row_floats = c.size * c.outputs;
    // All rows take their share of a panel of weights while it lies in the cache.
    for (int64_t channel = 0, done = PANEL; channel < c.outputs; channel += done)
        for (int64_t row = first_row; row < end_row; ++row) {
            const float *x = pictures.each[row / c.size].x.floats, *taps[TAPS];
            for (int t = 0; t < TAPS; ++t)
                taps[t] = x + pixel(c.in_size, c.inputs, row % c.size + t / 3 - 1, t % 3 - 1);
            done = multiply_panels(c.outputs - channel, taps, TAPS, c.inputs, c.size, c.inputs,
                                   c.weights.floats + channel * TAPS * c.inputs, PANEL * TAPS * c.inputs,
                                   scratch + (row - first_row) * row_floats + channel, c.outputs);
        }
    for (int64_t row = first_row; row < end_row; ++row)
        for (int64_t n = pictures.first_of(row / c.size); n < pictures.end_of(row / c.size); ++n)
            finish_row(pictures.each[n], scratch + (row - first_row) * row_floats, row % c.size);
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
